"""Showing how jobs go: bars on a terminal, one line per event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from soundfleet_schemas import ErrorCode, EventType, JobEvent, ProgressUpdate, Stage

from .console import WIDE, err
from .tables import printable

WAITS = "waiting for a worker again"
STAGES = {
    "fetch": "fetching the audio",
    "prepare": "preparing",
    "load": "loading the model",
    "infer": "working",
    "decode": "turning it into audio",
    "deliver": "delivering",
}
_ENDINGS = {
    EventType.completed: "[green]done[/]",
    EventType.failed: "[red]failed[/]",
    EventType.cancelled: "[yellow]cancelled[/]",
}


class _Remaining(ProgressColumn):
    """The worker's estimate, counted down between its reports."""

    def render(self, task: Task) -> Text:
        ends_at = task.fields.get("ends_at")
        if ends_at is None or task.finished:
            return Text("")
        return Text(f"{max(0.0, ends_at - time.monotonic()):.0f} s left", style="cyan")


class JobProgress:
    """A display of jobs that run; ``follow`` feeds it one job's events."""

    def __init__(self, shown: bool = True) -> None:
        self._shown = shown
        self._live = shown and err.is_terminal
        wide = err.width >= WIDE
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=32 if wide else 8),
            TextColumn("{task.percentage:>3.0f}%"),
            *([TimeElapsedColumn()] if wide else []),
            TextColumn("{task.fields[state]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            _Remaining(table_column=Column(no_wrap=True)),
            console=err,
        )

    def __enter__(self) -> Self:
        if self._live:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bars.stop()

    def follow(self, label: str, events: Iterable[JobEvent]) -> JobEvent:
        """Show a job's events as they come; return the terminal one."""
        bar = self._bars.add_task(label, total=100, state="waiting")
        last: JobEvent | None = None
        for event in events:
            last = event
            if self._live:
                if _is_news(event):
                    _print(label, event)
                self._show(bar, event)
            elif self._shown:
                _print(label, event)
        if last is None:  # the caller resumed after the end
            raise ValueError("a job without events")
        return last

    def _show(self, bar: TaskID, event: JobEvent) -> None:
        update = event.progress
        if update is not None:
            eta = update.eta_sec
            ends_at = None if eta is None else time.monotonic() + eta
            self._bars.update(bar, completed=min(update.percent, 99), state=describe(event), ends_at=ends_at)
        elif event.type is EventType.completed:
            self._bars.update(bar, completed=100, state=describe(event), ends_at=None)
        elif event.terminal:
            self._bars.update(bar, state=describe(event), ends_at=None)
            self._bars.stop_task(bar)
        else:
            self._bars.update(bar, state=WAITS if _is_news(event) else describe(event), ends_at=None)


def _steps(update: ProgressUpdate) -> str:
    """How far the stage is; a download counts in KiB, and its size may be unknown."""
    if update.stage in (Stage.fetch, Stage.load):
        if update.total_steps:
            return f", {min(100, 100 * update.current_step // update.total_steps)} %"
        return f", {update.current_step / 1024:.1f} MiB" if update.current_step else ""
    return f", step {update.current_step} of {update.total_steps}" if update.total_steps else ""


def _awaits_source(event: JobEvent) -> bool:
    """Whether the job waits for another, whose output is its source: that is no failure."""
    return event.error is not None and event.error.code is ErrorCode.SOURCE_JOB_PENDING


def _is_news(event: JobEvent) -> bool:
    """Whether an event is to stay on the screen when the bar has gone on: why a job is not done at its first turn."""
    return event.error is not None and not event.terminal and not _awaits_source(event)


def _print(label: str, event: JobEvent) -> None:
    err.print(f"{label}: {describe(event)}", soft_wrap=True)


def describe(event: JobEvent) -> str:
    """An event in a few words, with the reason of what did not go as wanted; rich's markup."""
    if event.progress is not None:
        update = event.progress
        return STAGES[update.stage] + _steps(update)
    because = "" if event.error is None else f": {event.error.code}"
    why = "" if event.error is None else f": {escape(printable(str(event.error)))}"
    match event.type:
        case EventType.submitted:
            return "waiting for a worker"
        case EventType.claimed:
            return "claimed" if event.attempt == 1 else f"claimed again ({event.attempt})"
        case EventType.retry if _awaits_source(event):
            return "waiting for its source"
        case EventType.retry:
            delay = max(0.0, ((event.retry_at_ms or event.at_ms) - event.at_ms) / 1000)
            return f"attempt {event.attempt} failed, again in {delay:.1f} s{why}"
        case EventType.requeued if event.worker:
            return f"handed back by worker {escape(printable(event.worker))}, waiting for another{why}"
        case EventType.requeued:
            return WAITS
        case EventType.fetched:
            return "the audio is fetched; waiting for a worker"
        case EventType.lost:
            return f"worker {event.worker} was lost; waiting for another"
        case EventType.cancelling:
            return "cancelling"
        case _:
            return _ENDINGS[event.type] + because
