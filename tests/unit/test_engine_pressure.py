"""Launches grow back when memory was short for a while only."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from tests.unit.desk import CountModel, Desk

from soundfleet_worker.engine.pressure import PATIENCE


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An engine with one backend, not yet open."""
    return Desk(tmp_path)


def test_runs_share_launches_again_once_memory_is_back(desk: Desk) -> None:
    """On a service that is never idle: a launch takes twice as many runs after so many good ones, up to all."""
    sizes: list[int] = []

    def tight_at_first(names: list[str], _slots: int) -> None:
        sizes.append(len(names))
        if len(sizes) <= 2:
            raise MemoryError

    desk.count.before_step = tight_at_first
    desk.open()
    for name in "abcd":
        desk.start(name, "x 60")
    desk.finish_all(ticks=400)
    assert sizes[: 3 + 2 * PATIENCE] == [4, 2, *[1] * PATIENCE, *[2] * PATIENCE, 4]
    assert set(desk.ends().values()) == {"Finished"}


def test_launches_grow_back_once_memory_is_back(desk: Desk) -> None:
    """A model that was shrunk is asked to grow, step by step, up to what it was at first."""
    sizes: list[int] = []

    def tight_at_first(_names: list[str], slots: int) -> None:
        sizes.append(slots)
        if len(sizes) <= 2:
            raise MemoryError

    desk.count.slots, desk.count.before_step = 8, tight_at_first
    desk.open()
    desk.start("a", f"x {4 * PATIENCE}")
    desk.finish_all()
    assert sizes == [8, 4, *[2] * PATIENCE, *[4] * PATIENCE, *[8] * (2 * PATIENCE)]


def test_a_device_that_is_too_small_for_good_is_tried_ever_less(desk: Desk) -> None:
    """Each attempt to grow that fails doubles the number of good launches before the next."""
    failures: list[int] = []
    launches = 0

    def tight(_names: list[str], slots: int) -> None:
        nonlocal launches
        launches += 1
        if slots > 2:
            failures.append(launches)
            raise MemoryError

    desk.count.slots, desk.count.before_step = 8, tight
    desk.open()
    desk.start("a", f"x {20 * PATIENCE}")
    desk.finish_all(ticks=30 * PATIENCE)
    gaps = [after - before - 1 for before, after in pairwise(failures)]
    assert gaps == [0, PATIENCE, 2 * PATIENCE, 4 * PATIENCE, 8 * PATIENCE]
    assert desk.ends() == {"a": "Finished"}


def test_a_launch_never_grows_beyond_the_budget(tmp_path: Path) -> None:
    """A model that was shrunk to fit stays so."""
    desk = Desk(tmp_path, budget_mb=25)
    sizes: set[int] = set()
    desk.count.slots, desk.count.slot_mb = 8, 5
    desk.count.before_step = lambda _names, slots: sizes.add(slots)
    desk.open()
    desk.start("a", f"x {3 * PATIENCE}")
    desk.finish_all()
    assert sizes == {2}
    assert desk.ends() == {"a": "Finished"}


def test_a_model_that_has_no_memory_to_shrink_gives_way_to_fewer_runs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To move what it holds takes memory, too."""
    sizes: list[int] = []

    def tight(names: list[str], _slots: int) -> None:
        sizes.append(len(names))
        if len(names) > 1:
            raise MemoryError

    def shrink(_model: CountModel) -> bool:
        raise MemoryError

    monkeypatch.setattr(CountModel, "shrink", shrink)
    desk.count.before_step = tight
    desk.open()
    for name in "ab":
        desk.start(name, "x 2")
    desk.finish_all()
    assert sizes[:3] == [2, 1, 1]
    assert set(desk.ends().values()) == {"Finished"}
