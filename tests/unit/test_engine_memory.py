"""What the engine does when memory is short."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
from tests.unit.desk import Desk

from soundfleet_schemas import ErrorCode
from soundfleet_worker.backends.contract import EngineJob
from soundfleet_worker.engine.wire import Failed, Finished


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An engine with one backend, not yet open."""
    return Desk(tmp_path)


def test_the_least_recently_used_idle_model_is_evicted(tmp_path: Path) -> None:
    """And a model with active runs never is."""
    desk = Desk(tmp_path, budget_mb=25, names=("count", "second", "third"))
    desk.open()
    for name in ("count", "second", "third", "second"):
        desk.clock.now += 1
        desk.start(f"run of {name} at {desk.clock.now:g}", backend=name)
        desk.finish_all()
    assert desk.count.log[-1] == "close count"
    assert "close second" not in desk.factories["second"].log
    assert set(desk.ends().values()) == {"Finished"}


def test_no_model_is_evicted_for_a_run_that_must_wait_anyway(tmp_path: Path) -> None:
    """Only when eviction gives enough room; until then the model stays warm for its next run."""
    desk = Desk(tmp_path, budget_mb=100, names=("count", "large", "warm"))
    desk.factories["large"].run_mb, desk.count.run_mb = 75, 50
    desk.open()
    desk.start("w", backend="warm")
    desk.finish_all()
    desk.start("a", "x 5")
    desk.engine.tick()
    desk.start("big", backend="large")
    while "a" not in desk.ends():
        desk.engine.tick()
        assert "close warm" not in desk.factories["warm"].log
    desk.finish_all()
    assert desk.factories["warm"].log.count("close warm") + desk.count.log.count("close count") == 1
    assert desk.ends()["big"] == "Finished"


def test_a_model_that_cannot_be_closed_is_evicted_all_the_same(tmp_path: Path) -> None:
    """What it raises is not the fault of the run that needs its room."""
    desk = Desk(tmp_path, budget_mb=15, names=("count", "second"))

    def trouble() -> None:
        raise ValueError("no")

    desk.count.on_close = trouble
    desk.open()
    desk.start("a")
    desk.finish_all()
    desk.start("b", backend="second")
    desk.finish_all()
    assert desk.ends() == {"a": "Finished", "b": "Finished"}


def test_a_run_that_fits_no_budget_fails(desk: Desk) -> None:
    """It names what is needed and what there is, and the next one runs."""
    desk.count.run_mb = 2000
    desk.open()
    desk.start("a")
    desk.engine.tick()
    desk.count.run_mb = 1
    desk.start("b")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.OUT_OF_MEMORY, "b": "Finished"}
    assert "2,010 MB" in desk.of(Failed)[0].error.message


def test_out_of_memory_first_shrinks_the_launch(desk: Desk) -> None:
    """Nobody fails while the model can make its launches smaller."""

    def tight(_names: list[str], slots: int) -> None:
        if slots > 2:
            raise MemoryError

    desk.count.slots, desk.count.before_step = 8, tight
    desk.open()
    desk.start("a", "x 2")
    desk.start("b", "x 2")
    desk.finish_all()
    assert set(desk.ends().values()) == {"Finished"}


def test_out_of_memory_then_halves_the_runs(desk: Desk) -> None:
    """All get through in smaller groups, none waits for ever."""

    def tight(names: list[str], _slots: int) -> None:
        if len(names) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")

    desk.count.before_step = tight
    desk.open()
    for name in "abcd":
        desk.start(name, "x 2")
    desk.finish_all()
    assert desk.ends() == dict.fromkeys("abcd", "Finished")


def test_a_single_run_that_never_fits_fails_out_of_memory(desk: Desk) -> None:
    """The others go on."""

    def tight(names: list[str], _slots: int) -> None:
        if "b" in names:
            raise MemoryError("no room for b")

    desk.count.before_step = tight
    desk.open()
    for name in "abc":
        desk.start(name, "x 2")
    desk.finish_all()
    assert desk.ends() == {"a": "Finished", "b": ErrorCode.OUT_OF_MEMORY, "c": "Finished"}


def test_out_of_memory_while_beginning_waits_for_the_others(desk: Desk) -> None:
    """The run begins when theirs have left; alone it would fail."""

    def crowded(job: EngineJob) -> None:
        if job.job_id == "b" and "finish a" not in desk.count.log:
            raise MemoryError

    desk.count.before_begin = crowded
    desk.open()
    desk.start("a", "x 3")
    desk.start("b")
    desk.finish_all()
    assert desk.ends() == {"a": "Finished", "b": "Finished"}


def test_out_of_memory_while_loading_evicts_and_tries_again(tmp_path: Path) -> None:
    """Idle models leave before a load is given up."""
    desk = Desk(tmp_path, names=("count", "second"))

    def tight() -> None:
        if "close count" not in desk.count.log:
            raise MemoryError

    desk.factories["second"].before_load = tight
    desk.open()
    desk.start("a")
    desk.finish_all()
    desk.start("b", backend="second")
    desk.finish_all()
    assert desk.ends() == {"a": "Finished", "b": "Finished"}


@pytest.mark.parametrize("at", ["begin", "step"])
def test_idle_models_leave_before_a_run_fails_for_memory(tmp_path: Path, at: str) -> None:
    """One after the other, the one used longest ago first, and only as many as must."""
    desk = Desk(tmp_path, names=("count", "second", "third", "tight"))
    tight = desk.factories["tight"]
    tight.slots = 8
    launches: list[int] = []

    def crowded() -> None:
        if "close second" not in desk.factories["second"].log:
            raise MemoryError

    def step(_names: list[str], slots: int) -> None:
        launches.append(slots)
        crowded()

    if at == "begin":
        tight.before_begin = lambda _job: crowded()
    else:
        tight.before_step = step
    desk.open()
    for name in ("count", "second", "third"):
        desk.clock.now += 1
        desk.start(name, backend=name)
        desk.finish_all()
    desk.start("a", backend="tight")
    desk.finish_all()
    assert set(desk.ends().values()) == {"Finished"}
    assert desk.count.log[-1] == "close count"
    assert desk.factories["third"].log[-1] == "finish third"
    assert set(launches) <= {8}, "the launch was made smaller though there was memory to free"


def test_idle_models_leave_before_a_run_waits_for_the_others(tmp_path: Path) -> None:
    """A run that cannot begin waits only for memory that is in use."""
    desk = Desk(tmp_path, names=("count", "busy", "tight"))

    def crowded(_job: EngineJob) -> None:
        if "close count" not in desk.count.log:
            raise MemoryError

    desk.factories["tight"].before_begin = crowded
    desk.open()
    desk.start("idle")
    desk.finish_all()
    desk.start("long", "x 20", backend="busy")
    desk.start("a", backend="tight")
    desk.finish_all()
    assert [m.run for m in desk.of(Finished)] == ["idle", "a", "long"]


def test_what_an_exception_holds_is_let_go_before_caches_are_emptied(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frames would keep alive the very arrays that did not fit."""
    held: list[weakref.ref[np.ndarray]] = []
    alive: list[bool] = []

    def tight(_names: list[str], slots: int) -> None:
        activations = np.zeros(1000)
        if slots > 1:
            held.append(weakref.ref(activations))
            raise MemoryError

    monkeypatch.setattr("soundfleet_worker.engine.pressure.release_memory", lambda: alive.append(held[0]() is not None))
    desk.count.slots, desk.count.before_step = 2, tight
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert alive == [False]


def test_a_model_larger_than_the_budget_is_shrunk(tmp_path: Path) -> None:
    """Before a run is refused because of it."""
    desk = Desk(tmp_path, budget_mb=25)
    desk.count.slots, desk.count.slot_mb = 8, 5
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": "Finished"}
