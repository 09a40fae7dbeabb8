"""Records as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from soundfleet_schemas import (
    FETCH_WEB,
    AudioFile,
    DeadLetter,
    ErrorCode,
    GenerationRequest,
    Job,
    JobResult,
    JobStatus,
    UploadSource,
    WorkerInfo,
)

from .console import WIDE, out

READABLE_URL_CHARS = 120
COLOURS = {
    JobStatus.pending: "cyan",
    JobStatus.processing: "blue",
    JobStatus.completed: "green",
    JobStatus.failed: "red",
    JobStatus.cancelled: "yellow",
}


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def jobs_table(jobs: Iterable[Job]) -> Table:
    """One line per job."""
    wide = out.width >= WIDE
    table = _table("job", *(("age", "state", "%", "model") if wide else ("state",)), "what")
    for column in table.columns:  # an id that is folded cannot be copied
        column.no_wrap, column.overflow = True, "ellipsis"
    table.columns[0].min_width = 36
    table.columns[2 if wide else 1].min_width = max(map(len, COLOURS))
    for job in jobs:
        state = Text(job.status, style=COLOURS[job.status])
        cells = (ago(job.created_at), state, str(job.progress), job.model) if wide else (state,)
        table.add_row(job.id, *cells, Text(_what(job)))
    return table


def job_table(job: Job) -> Table:
    """Everything known of one job."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows: list[tuple[str, object | None]] = [
        ("job", job.id),
        ("state", Text(_state(job), style=COLOURS[job.status])),
        ("what", Text(_what(job))),
        ("model", job.model),
        ("created", f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC ({ago(job.created_at)} ago)"),
        ("progress", f"{job.progress} %" + ("" if job.stage is None else f", {job.stage}")),
        ("waits", _place(job)),
        ("attempt", job.attempt or None),
        ("crashes", job.crashes or None),
        ("worker", job.worker),
        ("estimated", None if job.estimated_duration is None else f"{job.estimated_duration} s"),
        ("took", None if job.actual_duration is None else f"{job.actual_duration} s"),
        ("retry at", None if job.retry_at is None or _awaits(job) else f"{job.retry_at:%H:%M:%S} UTC"),
        ("redrive of", job.request.retried_from),
        ("error", None if job.error is None or _awaits(job) else Text(str(job.error), style="red")),
    ]
    for name, value in rows:
        if value is not None:
            table.add_row(name, value if isinstance(value, Text) else str(value))
    return table


def _awaits(job: Job) -> bool:
    """Whether a job waits for another, whose output is its source: that is no error."""
    return job.error is not None and job.error.code is ErrorCode.SOURCE_JOB_PENDING and not job.finished


def _place(job: Job) -> str | None:
    if _awaits(job) and job.error is not None:
        return f"for its source: {job.error.message}"
    if job.ahead is None:
        return None
    return f"behind {job.ahead} other jobs" if job.ahead else "as the next one"


def _state(job: Job) -> str:
    if job.cached:
        return f"{job.status} (answered from finished work)"
    return f"{job.status}, being cancelled" if job.cancel_requested and not job.finished else job.status


def _what(job: Job) -> str:
    if isinstance(job.request, GenerationRequest):
        return f"{job.request.duration_sec} s: {printable(job.request.prompt)}"
    source = getattr(job.request, "source", None)
    named = source.filename if isinstance(source, UploadSource) else ""
    return printable(named or job.input_source or "")


def printable(text: str) -> str:
    """On one line and without control characters: what others have submitted must not steer this terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


class Delivered(NamedTuple):
    """A result, and the directory that its files were downloaded to, if they were."""

    result: JobResult
    directory: Path | None

    def paths(self) -> Iterator[Path]:
        """Where the downloaded files lie."""
        directory = Path() if self.directory is None else self.directory
        return (directory / file.filename for file in self.result.files.values())


def files_table(delivered: Iterable[Delivered]) -> RenderableType:
    """The files of results, with where they lie: in the directory, else at their address or key."""
    wide = out.width >= WIDE
    measures = ("length", "peak", "rms", "size") if wide else ("length",)
    table = _table("file", *measures, "where")
    for column in table.columns[1:-1]:
        column.justify = "right"
    notes = []
    for result, directory in delivered:
        for name, file in result.files.items():
            where = str(directory / file.filename) if directory is not None else _address(file)
            cells = (f"{file.duration:.1f} s", _level(file.peak_dbfs), _level(file.rms_dbfs), _size(file))
            table.add_row(Text(name, style="bold"), *cells[: len(measures)], Text(where))
        notes += [Text(f"! {warning}", style="yellow") for warning in result.warnings]
    return Group(table, *notes)


def _address(file: AudioFile) -> str:
    """A short address, else the key: nobody reads or copies a signature of 400 characters."""
    url = file.cdn_url or ""
    return url if 0 < len(url) <= READABLE_URL_CHARS else file.path


def _level(dbfs: float | None) -> str:
    return "" if dbfs is None else f"{dbfs:.1f} dBFS"


def _size(file: AudioFile) -> str:
    return f"{file.size / 1024 / 1024:.1f} MiB"


def letters_table(letters: Iterable[DeadLetter]) -> Table:
    """One line per dead letter."""
    table = _table("job", "age", "reason", "tries", "error")
    for letter in letters:
        died_at = datetime.fromtimestamp(letter.at_ms / 1000, UTC)
        tries = str(letter.attempts) + (f" ({letter.crashes} crashes)" if letter.crashes else "")
        table.add_row(letter.job_id or "-", ago(died_at), letter.reason, tries, Text(str(letter.error)))
    return table


def letter_table(letter: DeadLetter) -> RenderableType:
    """One dead letter with all that is known."""
    detail = [Text(letter.detail, style="dim")] if letter.detail else []
    return Group(letters_table([letter]), *detail)


def workers_table(workers: Iterable[WorkerInfo]) -> Table:
    """One line per living worker."""
    table = _table("worker", "device", "engine", "jobs", "up", "serves")
    for worker in workers:
        state = "draining" if worker.draining else worker.engine
        jobs = f"{len(worker.running)}/{worker.capacity + worker.fetch_capacity}"
        backends = Text(", ".join([*worker.backends, *([FETCH_WEB] if worker.fetch_capacity else [])]))
        table.add_row(worker.id, worker.device, state, jobs, ago(worker.started_at), backends)
    return table


def ago(then: datetime) -> str:
    """A span up to now in its largest unit."""
    seconds = max(0.0, (datetime.now(UTC) - then).total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
