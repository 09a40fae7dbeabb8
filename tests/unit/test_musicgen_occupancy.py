"""With a backlog, the slots of the decode loop are taken: a piece that ends is followed at the next span."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from tests.musicgen_checkpoint import NAME, job_of, load_model, save_checkpoint  # noqa: E402

from soundfleet_worker.backends.contract import Run  # noqa: E402
from soundfleet_worker.musicgen.pace import PACES  # noqa: E402
from soundfleet_worker.musicgen.slots import Seat  # noqa: E402

SLOTS, PIECES, SECONDS = 4, 20, (30, 60, 90, 115, 120)


pytestmark = pytest.mark.usefixtures("one_thread")


def test_more_than_95_percent_of_the_places_decode_while_pieces_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty pieces of a tenth of the real tokens, so that joining and leaving cost ten times as much."""
    save_checkpoint(tmp_path / "models" / NAME)
    model = load_model(tmp_path / "models", slots=SLOTS, pace=PACES["cpu"])
    studio: Any = model._studio
    span, drawn, offered = studio._launch.span, 0, 0

    def counted(seats: Sequence[Seat], count: int) -> None:
        nonlocal drawn, offered
        before = [seat.position for seat in seats]
        span(seats, count)
        moved = [seat.position - position for seat, position in zip(seats, before, strict=True)]
        if waiting:
            drawn += sum(moved)
            offered += SLOTS * max(moved)

    monkeypatch.setattr(studio._launch, "span", counted)
    waiting = [job_of(tmp_path, seconds=SECONDS[i % len(SECONDS)], seed=i) for i in range(PIECES)]
    active: list[Run] = []
    while waiting or active:
        while waiting and len(active) < model.max_runs:
            active.append(model.begin(waiting.pop()))
        model.step(active)
        for run in [run for run in active if run.done]:
            model.finish(run)
            active.remove(run)
    assert offered > 1000
    assert drawn / offered > 0.95
