"""Submitting jobs: ``generate`` and ``separate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soundfleet_schemas import (
    GenerationRequest,
    JobRequest,
    JobStatus,
    OutputFormat,
    Priority,
    Quality,
    SchedulerType,
    SeparationRequest,
    StemSeparationOptions,
    kind_of,
    new_id,
)

from ..client import Producer
from ..outputs import prepare_directory
from . import options as o
from .console import ExitCode, emit, err, say
from .follow import follow


def generate(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="What the music should be, in words.", show_default=False)
    ],
    duration: Annotated[int, typer.Option("--duration", "-d", metavar="SEC", help="Length of the music.")] = 30,
    backend: Annotated[
        str | None,
        typer.Option("--backend", "-b", metavar="NAME", help="Which model; SOUNDFLEET_DEFAULT_BACKEND by default."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same music; drawn by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Diffusion steps, 1 to 200 (ACE-Step only).")] = None,
    scheduler: Annotated[SchedulerType | None, typer.Option(help="ODE/SDE solver (ACE-Step only).")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale, 1.0 to 30.0 (ACE-Step only).")] = None,
    output_format: o.Format = OutputFormat.wav,
    bit_depth: o.Bits = None,
    bitrate: o.Bitrate = None,
    priority: o.PriorityOption = Priority.Normal,
    client: o.Client = None,
    expires_in: o.ExpiresIn = None,
    time_limit: o.TimeLimit = None,
    cache: o.Cache = True,
    job_id: o.JobId = None,
    watch: o.Watch = False,
    out_dir: o.Out = None,
    timeout: o.Timeout = None,
    as_json: o.Json = False,
) -> int:
    """Generate music from a prompt.

    Example: soundfleet generate "warm lofi with rain" --duration 60 --out ./music
    """
    request = GenerationRequest(
        id=job_id or new_id(),
        prompt=prompt,
        duration_sec=duration,
        backend=backend,
        seed=seed,
        inference_steps=steps,
        scheduler=scheduler,
        guidance_scale=guidance,
        output_format=output_format,
        bit_depth=bit_depth,
        bitrate_kbps=bitrate,
        priority=priority,
        client=client,
        expires_at=o.expires_at(expires_in),
        time_limit_sec=time_limit,
        use_cache=cache,
    )
    return _publish(request, watch=watch, directory=out_dir, timeout=timeout, as_json=as_json)


def separate(
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
    remove_vocals: Annotated[bool, typer.Option("--remove-vocals", help="Karaoke: everything but the vocals.")] = False,
    normalize: Annotated[bool, typer.Option("--normalize", help="One gain for all stems, to peak at -1 dBFS.")] = False,
    segment: Annotated[float | None, typer.Option(metavar="SEC", help="Audio that the model sees at once.")] = None,
    overlap: Annotated[float | None, typer.Option(metavar="SEC", help="By how much segments overlap.")] = None,
    shifts: Annotated[int | None, typer.Option(help="Random time shifts to average, 0 to 10.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random shifts.")] = 0,
    output_format: o.Format = OutputFormat.wav,
    bit_depth: o.Bits = None,
    bitrate: o.Bitrate = None,
    priority: o.PriorityOption = Priority.Normal,
    client: o.Client = None,
    expires_in: o.ExpiresIn = None,
    time_limit: o.TimeLimit = None,
    cache: o.Cache = True,
    job_id: o.JobId = None,
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
            remove_vocals=remove_vocals,
            stems=None if stems is None else tuple(stem.strip() for stem in stems.split(",")),
            segment_duration=segment,
            overlap_duration=overlap,
            shifts=shifts,
            seed=seed,
        ),
        priority=priority,
        client=client,
        expires_at=o.expires_at(expires_in),
        time_limit_sec=time_limit,
        use_cache=cache,
    )
    return _publish(request, watch=watch, directory=out_dir, timeout=timeout, as_json=as_json)


def _publish(request: JobRequest, *, watch: bool, directory: Path | None, timeout: float | None, as_json: bool) -> int:
    followed = watch or directory is not None
    if timeout is not None and not followed:
        raise typer.BadParameter("--timeout acts only together with --watch or --out")
    if directory is not None:
        prepare_directory(directory)
    with Producer.from_env() as fleet:
        submitted = fleet.submit(request)
        if as_json:
            emit(submitted._asdict())
        elif followed:
            err.print(f"job {submitted.id}")
        else:
            say(submitted.id)
            err.print(f"[dim]follow it: soundfleet watch {submitted.id}[/]", soft_wrap=True)
        if not as_json and submitted.status is JobStatus.pending:
            _warn_of_no_worker(fleet, submitted.id)
        if not followed:
            return ExitCode.OK
        return follow(
            fleet, submitted.id, label=kind_of(request), directory=directory, timeout=timeout, as_json=as_json
        )


def _warn_of_no_worker(fleet: Producer, job_id: str) -> None:
    """Say it at once when nobody is there to take the job: otherwise it just waits."""
    model = fleet.status(job_id).model
    if not any(model in worker.backends for worker in fleet.workers()):
        warning = f"no worker that is alive serves {model}; the job waits for one"
        err.print(f"[yellow]![/] {warning} (see: soundfleet backends)", soft_wrap=True)
