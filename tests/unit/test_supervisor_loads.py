"""The keeper's clocks, while its engine loads a model and while runs wait for a place."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
import structlog
from tests.unit.test_supervisor_keeper import ENGINE, begin, start, until

from soundfleet_schemas import CATALOG, Backend, BackendStatus, ErrorCode, SoundfleetError, Stage
from soundfleet_worker.engine.wire import Cancelled, Progress, Ready
from soundfleet_worker.supervisor import clock, engine_process, keeper
from soundfleet_worker.supervisor.assignment import EngineFailed
from soundfleet_worker.supervisor.keeper import Keeper


@pytest.fixture
async def loads(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Loads]:
    """A keeper with an engine, whose words and clock are the test's."""
    monkeypatch.setattr(keeper, "TICK_SEC", 0.02)
    monkeypatch.setattr(engine_process, "TERM_GRACE_SEC", 0.3)
    kept = Keeper(lambda fd: [sys.executable, "-c", ENGINE, str(fd)], structlog.get_logger())
    keeping = asyncio.create_task(kept.run())
    await kept.wait_ready()
    yield Loads(kept, monkeypatch)
    await kept.close(keeping)
    assert keeping.exception() is None


class Loads:
    """What an engine that loads models says to its keeper, and when."""

    def __init__(self, kept: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept, self.pid, self.now = kept, kept.pid, clock.now()
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def say(self, status: BackendStatus) -> None:
        self.kept._receive(Ready(device="cpu", backends=(Backend.of(CATALOG["sketch"], status),)))

    def at(self, run: str, step: int, stage: Stage = Stage.infer) -> None:
        self.kept._receive(Progress(run=run, stage=stage, current_step=step, total_steps=9))

    def wait(self, sec: float) -> None:
        """Let so much time pass."""
        self.now += sec
        self.kept.tick()

    @property
    def killed(self) -> bool:
        return self.kept._killed is not None or self.kept.pid != self.pid


async def test_a_cancel_while_a_model_loads_settles_at_once_and_disturbs_nobody(loads: Loads) -> None:
    """The engine is in the load and cannot answer: the caller goes on, the engine lives, its late words are ignored."""
    kept, told = loads.kept, list[Progress]()
    neighbour = begin(kept, "nothing", "a", limit_sec=600)
    cancelled = asyncio.create_task(kept.perform(start("nothing", "deaf"), 600, told.append))
    await until(lambda: len(kept._assignments) == 2)
    loads.at("a", 3)
    loads.at("deaf", 0, Stage.load)
    loads.say(BackendStatus.Loading)
    cancelled.cancel()
    await asyncio.wait({cancelled}, timeout=10)
    assert cancelled.cancelled()
    loads.wait(600)
    assert not loads.killed
    loads.say(BackendStatus.Ready)
    loads.at("deaf", 0)
    assert len(told) == 1
    loads.wait(0.2)
    assert not loads.killed, "its grace begins when the engine can hear"
    kept._receive(Cancelled(run="deaf", current_step=0, total_steps=0))
    assert list(kept._assignments) == ["a"]
    assert not neighbour.done()
    neighbour.cancel()
    await asyncio.wait({neighbour})


async def test_a_cancel_just_before_a_load_is_settled_when_the_load_begins(loads: Loads) -> None:
    """Told within its grace, not after the load."""
    task = begin(loads.kept, "nothing", "deaf")
    await until(lambda: loads.kept._assignments)
    task.cancel()
    await until(lambda: loads.kept._assignments["deaf"].give_up_at)
    loads.say(BackendStatus.Loading)
    await asyncio.wait({task}, timeout=10)
    assert task.cancelled()
    loads.wait(600)
    assert not loads.killed


async def test_limits_stand_still_while_the_engine_loads_another_model(loads: Loads) -> None:
    """Neither the time limit nor silence counts; after the load the limit goes on from where it stood."""
    task = begin(loads.kept, "nothing", "a", limit_sec=100)
    await until(lambda: loads.kept._assignments)
    loads.at("a", 1)
    loads.wait(60)
    loads.say(BackendStatus.Loading)
    loads.wait(1000)
    loads.say(BackendStatus.Ready)
    loads.wait(30)
    assert not loads.kept._assignments["a"].overdue
    assert not loads.killed
    loads.wait(20)
    with pytest.raises(SoundfleetError) as caught:
        await task
    assert caught.value.code is ErrorCode.TIME_LIMIT_EXCEEDED


async def test_a_load_has_its_own_limit_and_the_run_that_it_is_for_is_to_blame(loads: Loads) -> None:
    """An hour."""
    task = begin(loads.kept, "nothing", "a")
    await until(lambda: loads.kept._assignments)
    loads.say(BackendStatus.Loading)
    loads.wait(keeper.LOAD_LIMIT_SEC - 1)
    assert not loads.killed
    loads.wait(2)
    with pytest.raises(EngineFailed, match="did not load"):
        await task


async def test_waiting_for_a_place_does_not_count(loads: Loads) -> None:
    """Of two runs one steps, the other waits for longer than its limit; then its clock starts with its first step."""
    tasks = [begin(loads.kept, "nothing", name, limit_sec=limit) for name, limit in (("a", 900), ("b", 5))]
    await until(lambda: len(loads.kept._assignments) == 2)
    loads.at("b", 0, Stage.load)
    loads.at("b", 0)
    for step in range(1, 8):
        loads.at("a", step)
        loads.wait(100)
        assert not loads.kept._assignments["b"].overdue
        assert not loads.killed
    loads.kept._receive(Cancelled(run="a", current_step=8, total_steps=9))
    loads.wait(4)
    assert not loads.kept._assignments["b"].overdue, "alone on the engine it is given its time to begin"
    loads.at("b", 1)
    loads.wait(6)
    assert loads.kept._assignments["b"].overdue
    await asyncio.wait(tasks)


async def test_an_engine_on_which_nothing_moves_is_killed_though_all_of_its_runs_wait(loads: Loads) -> None:
    """Silence ends also the waiting of those who have not begun, after a load too."""
    tasks = [begin(loads.kept, "nothing", name, limit_sec=900) for name in ("a", "b")]
    await until(lambda: len(loads.kept._assignments) == 2)
    loads.say(BackendStatus.Loading)
    loads.wait(1000)
    loads.say(BackendStatus.Ready)
    for name in ("a", "b"):
        loads.at(name, 0)
    loads.wait(keeper.STALL_LIMIT_SEC - 1)
    assert not loads.killed
    loads.wait(2)
    assert loads.killed
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
