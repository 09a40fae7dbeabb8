"""``separate``: the stems of a song."""

from __future__ import annotations

from typing import Annotated

import typer

from soundfleet_schemas import (
    OutputFormat,
    Priority,
    Quality,
    SeparationRequest,
    StemSeparationOptions,
    new_id,
)

from . import options as o
from .publish import Following, publish


def separate(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file, s3://BUCKET/KEY, https://..., or job:ID for another job's track.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="Which model; the quality's by default.")
    ] = None,
    quality: Annotated[Quality, typer.Option("--quality", "-q", help="How much to compute.")] = Quality.balanced,
    stems: Annotated[str | None, typer.Option(metavar="A,B", help="Only these stems: vocals,drums")] = None,
    two_stems: o.TwoStems = None,
    remove_vocals: Annotated[bool, typer.Option("--remove-vocals", help="Karaoke: everything but the vocals.")] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="One gain for all stems, to peak at -1 dBFS.")] = False,
    segment: Annotated[float | None, typer.Option(metavar="SEC", help="Audio that the model sees at once.")] = None,
    overlap: Annotated[float | None, typer.Option(metavar="SEC", help="By how much segments overlap.")] = None,
    shifts: Annotated[int | None, typer.Option(help="Random time shifts to average, 0 to 10.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random shifts.")] = 0,
    reference: o.References = None,
    keep_rate: o.KeepRate = False,
    output_format: o.Format = OutputFormat.wav,
    bit_depth: o.Bits = None,
    bitrate: o.Bitrate = None,
    priority: o.PriorityOption = Priority.Normal,
    client: o.Client = None,
    expires_in: o.ExpiresIn = None,
    time_limit: o.TimeLimit = None,
    cache: o.Cache = True,
    job_id: o.JobId = None,
    then: o.Then = None,
    watch: o.Watch = False,
    out_dir: o.Out = None,
    timeout: o.Timeout = None,
    as_json: o.Json = False,
) -> int:
    """Split a song into stems.

    Example: soundfleet separate song.mp3 --model htdemucs --out ./stems
    """
    request = SeparationRequest(
        id=job_id or new_id(),
        source=source,
        options=StemSeparationOptions(
            model=model,
            quality=quality,
            output_format=output_format,
            bit_depth=bit_depth,
            bitrate_kbps=bitrate,
            normalize=normalize,
            two_stems=two_stems,
            remove_vocals=remove_vocals,
            keep_sample_rate=keep_rate,
            stems=None if stems is None else tuple(stem.strip() for stem in stems.split(",")),
            segment_duration=segment,
            overlap_duration=overlap,
            shifts=shifts,
            seed=seed,
        ),
        references=o.references(reference),
        priority=priority,
        client=client,
        expires_at=o.expires_at(expires_in),
        time_limit_sec=time_limit,
        use_cache=cache,
    )
    return publish(context, request, Following(watch, out_dir, timeout, as_json), then)
