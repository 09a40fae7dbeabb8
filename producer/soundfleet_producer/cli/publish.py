"""Submitting what a command has read: alone or as a chain, and following it when asked to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import typer

from soundfleet_schemas import JobRequest, JobStatus, SoundfleetError, kind_of

from ..client import Producer
from ..outputs import prepare_directory
from ..queue.submit import Submitted
from . import chains
from .console import ExitCode, emit, err, say
from .follow import follow, left_running
from .tables import printable


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
        for each in _submit(fleet, requests):
            _tell(fleet, each, following)
        if not following.wanted:
            return ExitCode.OK
        return _follow_all(fleet, requests, following)


def _submit(fleet: Producer, requests: Sequence[JobRequest]) -> list[Submitted]:
    """Submit a chain as a whole: when a part of it is refused, what was submitted before is cancelled."""
    submitted: list[Submitted] = []
    try:
        for each in requests:
            submitted.append(fleet.submit(each))
    except (SoundfleetError, KeyboardInterrupt):
        for before in submitted:
            if before.outcome == "created":
                with suppress(SoundfleetError):
                    fleet.cancel(before.id)
        raise
    return submitted


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
            model = fleet.status(request.id).model  # a request may have left it to the fleet's default
            name = f"{model}-{number}" if model in folders else model
            folders.add(name)
            directory /= name
            prepare_directory(directory)
        with left_running([each.id for each in requests[number:]], following.as_json):
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
