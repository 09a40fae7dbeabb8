"""Following jobs: ``watch``, ``status``, ``jobs``, ``cancel`` and ``download``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from soundfleet_schemas import EventType, JobEvent, JobStatus

from ..client import Producer
from ..outputs import prepare_directory, result_of
from . import options as o
from .console import OF_JOB, ExitCode, complain, emit, err, say
from .measures import result_view
from .progress import JobProgress
from .tables import Delivered, job_table, jobs_table


@contextmanager
def left_running(job_ids: Sequence[str], as_json: bool) -> Iterator[None]:
    """Say of an interrupted command that its jobs go on, and how to follow or to cancel them."""
    try:
        yield
    except KeyboardInterrupt:
        if not as_json:
            err.print()  # behind the terminal's ^C
            for job_id in job_ids:
                err.print(f"job {job_id} goes on:", soft_wrap=True)
                err.print(f"[dim]  soundfleet watch {job_id}[/]", soft_wrap=True)
                err.print(f"[dim]  soundfleet cancel {job_id}[/]", soft_wrap=True)
        raise


def follow(
    fleet: Producer,
    job_id: str,
    *,
    label: str,
    directory: Path | None = None,
    after: str | None = None,
    timeout: float | None = None,
    as_json: bool = False,
) -> int:
    """Show a job's events up to its end, download its files when asked to, and return the exit code."""
    events = fleet.watch(job_id, after, timeout)
    if as_json:
        last = None
        for last in events:
            emit(last)
    else:
        with JobProgress() as progress:
            last = progress.follow(label, events)
    if last is not None and last.type is not EventType.completed:
        return ended_otherwise(last, as_json)
    if directory is not None:
        fleet.download(job_id, directory)
    result = fleet.result(job_id)
    if as_json:
        emit(result)
    else:
        say(result_view(Delivered(result, directory)))
        if directory is None:
            err.print(f"[dim]download them: soundfleet download {job_id} --out DIR[/]", soft_wrap=True)
    return ExitCode.OK


def ended_otherwise(last: JobEvent, as_json: bool) -> int:
    """Say why a job did not complete; return the exit code."""
    if last.error is not None:
        complain(last.error, as_json)
    return OF_JOB[JobStatus(last.type.value)]


def watch(
    job_id: o.JobArgument,
    after: Annotated[str | None, typer.Option(help="Resume after the event with this id.")] = None,
    out_dir: o.Out = None,
    timeout: o.Timeout = None,
    as_json: o.Json = False,
) -> int:
    """Follow a job to its end; its outcome is the exit code.

    Example: soundfleet watch JOB --json | jq .progress.percent
    """
    with Producer.from_env() as fleet:
        label = fleet.status(job_id).kind
        if out_dir is not None:
            prepare_directory(out_dir)
        with left_running([job_id], as_json):
            return follow(fleet, job_id, label=label, directory=out_dir, after=after, timeout=timeout, as_json=as_json)


def status(job_id: o.JobArgument, as_json: o.Json = False) -> int:
    """Show everything known of a job."""
    with Producer.from_env() as fleet:
        job = fleet.status(job_id)
    if as_json:
        emit(job)
    else:
        say(job_table(job))
        if job.result is not None:
            say(result_view(Delivered(job.result, None)))
    return ExitCode.OK


def jobs(
    status: Annotated[JobStatus | None, typer.Option("--status", "-s", help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    before: Annotated[str | None, typer.Option(help="The page after this job id: jobs older than it.")] = None,
    as_json: o.Json = False,
) -> int:
    """List jobs, the newest first.

    Example: soundfleet jobs --status failed --limit 100
    """
    with Producer.from_env() as fleet:
        listed = fleet.jobs(status, limit, before)
    if as_json:
        for job in listed:
            emit(job)
    elif listed:
        say(jobs_table(listed))
    else:
        err.print("no jobs")
    return ExitCode.OK


def cancel(job_id: o.JobArgument, as_json: o.Json = False) -> int:
    """Cancel a job.

    A waiting one ends at once, a running one within a step.
    """
    with Producer.from_env() as fleet:
        fleet.cancel(job_id)
        job = fleet.status(job_id)
    if as_json:
        emit(job)
    elif job.finished:
        say(f"job {job_id} is {job.status}")
    else:
        say(f"job {job_id} is being cancelled by worker {job.worker}")
    return ExitCode.OK


def download(
    job_id: o.JobArgument,
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Directory for the files.")] = Path(),
    peaks: Annotated[bool, typer.Option("--peaks", help="Also the waveforms for players, NAME.peaks.json.")] = False,
    as_json: o.Json = False,
) -> int:
    """Download the files of a completed job."""
    with Producer.from_env() as fleet:
        result = result_of(fleet.status(job_id))
        paths = fleet.download(job_id, out_dir, peaks)
    if as_json:
        for path in paths:
            emit({"path": str(path.resolve()), "size": path.stat().st_size})
    else:
        say(result_view(Delivered(result, out_dir)))
    return ExitCode.OK
