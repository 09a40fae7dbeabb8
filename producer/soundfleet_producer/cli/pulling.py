"""Showing how a model's files come: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from .console import err


class Fetched(Protocol):
    """How far a pull is, as ``soundfleet_worker.models`` tells it."""

    @property
    def component(self) -> str: ...
    @property
    def done_bytes(self) -> int: ...
    @property
    def total_bytes(self) -> int: ...


class PullProgress:
    """One bar over all files of a model, with the name of the one that is coming."""

    def __init__(self, model: str, shown: bool) -> None:
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[component]}", style="dim", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=err,
            expand=True,
            transient=True,
            disable=not (shown and err.is_terminal),
        )
        self._bar = self._bars.add_task(model, total=None, component="asking the hub")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, fetched: Fetched) -> None:
        """Take the newest state."""
        done = fetched.done_bytes >= fetched.total_bytes
        component = fetched.component or ("" if done else "by another process")
        self._bars.update(
            self._bar, completed=fetched.done_bytes, total=fetched.total_bytes or None, component=component
        )
