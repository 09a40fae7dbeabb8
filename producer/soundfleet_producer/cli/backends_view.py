"""The backends as a person reads them: what each can do, and where it stands on the workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from soundfleet_schemas import Backend, BackendSpec, BackendStatus, Kind, WorkerInfo

from .tables import printable

WIDE = 120
"""Columns from which on the stems are named."""
COLOURS = {
    BackendStatus.Ready: "green",
    BackendStatus.Loading: "blue",
    BackendStatus.Downloading: "blue",
    BackendStatus.NotInstalled: "dim",
    BackendStatus.Error: "red",
}
MARKS = ("", "*", "**", "***")


class Standing(NamedTuple):
    """A backend on one worker."""

    worker: str
    backend: Backend


def standings(specs: Sequence[BackendSpec], workers: Sequence[WorkerInfo]) -> Iterator[dict[str, object]]:
    """One document per backend: its spec, and where it stands on each worker."""
    for spec in specs:
        document: dict[str, Any] = msgspec.to_builtins(spec)
        document["workers"] = [
            {"worker": worker, "status": backend.status, "message": backend.message, "percent": backend.percent}
            for worker, backend in _of(spec, workers)
        ]
        yield document


def _of(spec: BackendSpec, workers: Iterable[WorkerInfo]) -> list[Standing]:
    return [Standing(w.id, b) for w in workers for b in w.statuses if b.backend == spec.backend]


def view(specs: Sequence[BackendSpec], workers: Sequence[WorkerInfo], longest_sec: float, width: int) -> RenderableType:
    """A table with one line per backend, and below it what is not ready, and why.

    ``longest_sec`` is the fleet's limit of audio that is separated, ``width`` the terminal's.
    """
    wide = width >= WIDE
    measured = list(dict.fromkeys(spec.sdr_on for spec in specs if spec.sdr_db is not None))
    notes = [*_not_ready(specs, workers), *_sdr_note(measured), *_licences(specs)]
    return Group(_table(specs, workers, measured, longest_sec, wide), Text(), *notes)


def _table(
    specs: Sequence[BackendSpec],
    workers: Sequence[WorkerInfo],
    measured: Sequence[str],
    longest_sec: float,
    wide: bool,
) -> RenderableType:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("backend", no_wrap=True)
    table.add_column("makes", no_wrap=True)
    for name in ("kHz", "up to", "memory", "SDR"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("on workers", overflow="fold")
    for spec in specs:
        cells = (
            spec.backend,
            _makes(spec, wide),
            f"{spec.sample_rate / 1000:g}",
            f"{_longest_sec(spec, longest_sec):g} s",
            _memory(spec),
            _sdr(spec, measured),
        )
        table.add_row(*map(Text, cells), _where(_of(spec, workers)))
    return table


def _longest_sec(spec: BackendSpec, limit_sec: float) -> float:
    return spec.max_duration_sec if spec.kind is Kind.generate else min(spec.max_duration_sec, limit_sec)


def _makes(spec: BackendSpec, wide: bool) -> str:
    if spec.kind is Kind.generate:
        return "a track"
    return ", ".join(spec.stems) if wide else f"{len(spec.stems)} stems"


def _memory(spec: BackendSpec) -> str:
    if not spec.memory_mb:
        return "-"
    return f"{spec.memory_mb} MB" if spec.memory_mb < 1024 else f"{spec.memory_mb / 1024:.3g} GB"


def _sdr(spec: BackendSpec, measured: Sequence[str]) -> str:
    return "-" if spec.sdr_db is None else f"{spec.sdr_db:.2f}{MARKS[measured.index(spec.sdr_on) % len(MARKS)]}"


def _where(standings: Sequence[Standing]) -> Text:
    """How many workers have it in which state; of a download also how far it is."""
    if not standings:
        return Text("none", style="dim")
    counted = Counter(
        (b.status, f"downloading {b.percent or 0} %" if b.status is BackendStatus.Downloading else _word(b.status))
        for _, b in standings
    )
    alone = len(standings) == 1
    parts = [Text(words if alone else f"{n} {words}", style=COLOURS[state]) for (state, words), n in counted.items()]
    return Text("\n").join(parts)


def _word(status: BackendStatus) -> str:
    return status.replace("_", " ")


def _not_ready(specs: Sequence[BackendSpec], workers: Sequence[WorkerInfo]) -> Iterator[Text]:
    """A line for each reason why backends are not ready, with what to do; reasons that differ by the name are one."""
    found: dict[tuple[BackendStatus, str], list[tuple[str, Standing]]] = {}
    for spec in specs:
        for standing in _of(spec, workers):
            backend = standing.backend
            if backend.message and backend.status is not BackendStatus.Ready:
                like = backend.message.replace(spec.backend, "MODEL")
                found.setdefault((backend.status, like), []).append((spec.backend, standing))
    for (status, like), several in found.items():
        names = list(dict.fromkeys(name for name, _ in several))
        where = list(dict.fromkeys(standing.worker for _, standing in several))
        why = like if len(names) > 1 else several[0][1].backend.message or ""
        on = where[0] if len(where) == 1 else f"{len(where)} workers"
        line = Text(f"{', '.join(names)}: ", style="bold")
        line.append(f"{_word(status)} on {on}: ", style=COLOURS[status])
        yield line.append(printable(why), style="not bold")


def _sdr_note(measured: Sequence[str]) -> Iterator[Text]:
    if measured:
        on = "; ".join(f"{MARKS[index % len(MARKS)]} on {what}".strip() for index, what in enumerate(measured))
        yield Text(f"SDR: as published, mean over the stems, dB; {on}; - nobody has published one", style="dim")


def _licences(specs: Sequence[BackendSpec]) -> Iterator[Text]:
    by_licence: dict[str, list[str]] = {}
    for spec in specs:
        by_licence.setdefault(spec.licence, []).append(spec.backend)
    for licence, names in by_licence.items():
        yield Text(f"Licence of the weights, {', '.join(names)}: {licence}", style="dim")
