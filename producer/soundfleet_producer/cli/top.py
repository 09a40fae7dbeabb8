"""``top``: the fleet as it is now, again and again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from soundfleet_schemas import JobStatus

from ..client import Producer
from . import options as o
from .console import ExitCode, emit, out
from .tables import COLOURS, jobs_table, workers_table

SHOWN_JOBS = 15


def top(
    every: Annotated[float, typer.Option(min=0.1, metavar="SEC", help="How often to look.")] = 1.0,
    times: Annotated[int | None, typer.Option(min=1, help="Look so often; until Ctrl-C by default.")] = None,
    as_json: o.Json = False,
) -> int:
    """Watch the fleet: jobs by state, workers, and what runs.

    Example: soundfleet top --times 1 --json
    """
    with Producer.from_env() as fleet:
        if as_json:
            for _ in _looks(every, times):
                emit({"jobs": fleet.counts(), "workers": [worker.id for worker in fleet.workers()]})
        else:
            with Live(console=out, auto_refresh=False) as live:
                for _ in _looks(every, times):
                    live.update(_picture(fleet), refresh=True)
    return ExitCode.OK


def _looks(every: float, times: int | None) -> Iterator[int]:
    """Count the looks, with a pause before each but the first."""
    for look in itertools.count() if times is None else range(times):
        if look:
            time.sleep(every)
        yield look


def _picture(fleet: Producer) -> RenderableType:
    counts = fleet.counts()
    line = Text("  ").join(Text(f"{status} {count}", style=COLOURS[status]) for status, count in counts.items())
    workers, running = fleet.workers(), fleet.jobs(JobStatus.processing, SHOWN_JOBS)
    parts: list[RenderableType] = [line, Text()]
    parts += [workers_table(workers), Text()] if workers else [Text("no workers", style="yellow"), Text()]
    if running:
        parts.append(jobs_table(running))
    return Group(*parts)
