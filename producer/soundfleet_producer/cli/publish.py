"""Submitting jobs, and ``separate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from soundfleet_schemas import (
    JobRequest,
    JobStatus,
    OutputFormat,
    Priority,
    Quality,
    SeparationRequest,
    StemSeparationOptions,
    backend_of,
    kind_of,
    new_id,
)

from ..client import Producer
from ..outputs import prepare_directory
from ..queue.submit import Submitted
from . import chains
from . import options as o
from .console import ExitCode, emit, err, say
from .follow import follow
from .tables import printable


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


class Following(NamedTuple):
    """How a command goes on after it has submitted."""

    watch: bool
    directory: Path | None
    timeout: float | None
    as_json: bool

    @property
    def wanted(self) -> bool:
        return self.watch or self.directory is not None


def publish(context: typer.Context, request: JobRequest, following: Following, then: Sequence[str] | None) -> int:
    """Submit a job and those that work on its output, follow them when asked to, and return the exit code."""
    plan = chains.planned(context)
    if plan is not None:  # read as a part of a chain
        chains.check_following(following.wanted or following.timeout is not None or bool(then))
        plan.append(request)
        return ExitCode.OK
    if following.timeout is not None and not following.wanted:
        raise typer.BadParameter("--timeout acts only together with --watch or --out")
    requests = [request, *chains.children(then or (), request, context.find_root())]
    if following.directory is not None:
        prepare_directory(following.directory)
    with Producer.from_env() as fleet:
        for child in requests[1:]:  # before anything is queued
            fleet.check(child)
        submitted = [fleet.submit(each) for each in requests]
        for each in submitted:
            _tell(fleet, each, following)
        if not following.wanted:
            return ExitCode.OK
        return _follow_all(fleet, requests, following)


def _tell(fleet: Producer, submitted: Submitted, following: Following) -> None:
    if following.as_json:
        emit(submitted._asdict())
        return
    if following.wanted:
        err.print(f"job {submitted.id}")
    else:
        say(submitted.id)
        err.print(f"[dim]follow it: soundfleet watch {submitted.id}[/]", soft_wrap=True)
    if submitted.status is JobStatus.pending:
        _warn_of_no_worker(fleet, submitted.id)


def _follow_all(fleet: Producer, requests: Sequence[JobRequest], following: Following) -> int:
    """Follow one job after the other; the files of chained ones go to folders named after their models."""
    folders: set[str] = set()
    codes = []
    for number, request in enumerate(requests):
        directory = following.directory
        if directory is not None and number:
            name = backend_of(request) if backend_of(request) not in folders else f"{backend_of(request)}-{number}"
            folders.add(name)
            directory /= name
            prepare_directory(directory)
        code = follow(
            fleet,
            request.id,
            label=kind_of(request),
            directory=directory,
            timeout=following.timeout,
            as_json=following.as_json,
        )
        codes.append(code)
    return next((code for code in codes if code != ExitCode.OK), ExitCode.OK)


def _warn_of_no_worker(fleet: Producer, job_id: str) -> None:
    """Say it at once when nobody is there to take the job: otherwise it just waits."""
    model = fleet.status(job_id).model
    workers = fleet.workers()
    if not any(model in worker.backends for worker in workers):
        warning = f"no worker that is alive serves {model}; the job waits for one"
        err.print(f"[yellow]![/] {warning} (see: soundfleet backends)", soft_wrap=True)
        known = (backend for worker in workers for backend in worker.statuses if backend.backend == model)
        if (why := next((backend.message for backend in known if backend.message), None)) is not None:
            err.print(f"  {printable(why)}", markup=False, highlight=False, soft_wrap=True)
