"""The pure parts of the supervisor: why engines die, how long things take, who may be on the engine together."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from soundfleet_schemas import ErrorCode
from soundfleet_worker.supervisor.crash import Death, attribute
from soundfleet_worker.supervisor.gate import Gate
from soundfleet_worker.supervisor.meter import CpuMeter
from soundfleet_worker.supervisor.pace import Pace


def test_the_supervisor_does_not_import_torch() -> None:
    """The process that renews leases is not the one that is inside a framework; and it loads nothing in advance."""
    code = "import sys, soundfleet_worker.main; print([m for m in ('torch', 'numpy', 'boto3') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("death", "code", "words"),
    [
        (Death(-signal.SIGKILL, oom_kills=1), ErrorCode.OUT_OF_MEMORY, "kernel"),
        (Death(-signal.SIGKILL), ErrorCode.WORKER_CRASHED, "SIGKILL"),
        (Death(-signal.SIGSEGV, oom_kills=1), ErrorCode.WORKER_CRASHED, "SIGSEGV"),
        (Death(-signal.SIGSEGV), ErrorCode.WORKER_CRASHED, "SIGSEGV"),
        (Death(-signal.SIGABRT, stderr="CUDA error: device-side assert triggered"), ErrorCode.DEVICE_FAILED, "SIGABRT"),
        (Death(1, stderr="terminate: std::bad_alloc"), ErrorCode.OUT_OF_MEMORY, "status 1"),
        (Death(3, stderr="Traceback: ValueError"), ErrorCode.WORKER_CRASHED, "status 3"),
        (Death(-255), ErrorCode.WORKER_CRASHED, "signal 255"),
    ],
)
def test_a_death_is_attributed_from_what_is_left(death: Death, code: ErrorCode, words: str) -> None:
    """Status, signal, the kernel's count of memory kills, last words."""
    info = attribute(death)
    assert info.code is code
    assert words in info.message
    assert info.retryable


def test_the_pace_follows_what_was_seen() -> None:
    """Many deliveries that took 5 s make it expect that; a delivery of nothing teaches nothing."""
    pace = Pace()
    for _ in range(50):
        pace.delivered(10.0, 5.0)
    pace.delivered(0.0, 100.0)
    assert pace.deliver_sec(10.0) == pytest.approx(5.0, rel=0.01)
    assert 5.0 < pace.deliver_sec(20.0) < 10.0


def test_the_first_delivery_says_more_than_the_guess() -> None:
    """One of 120 s that took 13 s."""
    pace = Pace()
    pace.delivered(120.0, 13.0)
    assert pace.deliver_sec(120.0) == pytest.approx(13.0)


def test_short_deliveries_do_not_make_a_long_one_look_slow() -> None:
    """What 5 s of audio cost, 0.15 s, is mostly what every delivery costs: 120 s do not take 24 times as long."""
    pace = Pace()
    for _ in range(50):
        pace.delivered(5.0, 0.15)
    assert pace.deliver_sec(120.0) < 1.5


def test_the_meter_counts_the_engine_and_never_falls() -> None:
    """Also when the engine is gone."""
    pids: list[int | None] = [1, None]
    meter = CpuMeter(lambda: pids[0])
    before = meter.cpu_sec()
    pids[0] = None
    assert meter.cpu_sec() >= before > 0


async def test_runs_enter_the_gate_together_and_a_suspect_alone() -> None:
    """A suspect waits for those inside; those who come later wait for it."""
    gate, inside, seen = Gate(), [], []
    doors = {name: asyncio.Event() for name in ("a", "b", "suspect", "late")}

    async def visit(name: str, alone: bool = False) -> None:
        async with gate.enter(alone):
            inside.append(name)
            seen.append(sorted(inside))
            await doors[name].wait()
            inside.remove(name)

    async def settle() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(visit("a")), asyncio.create_task(visit("b"))]
    await settle()
    tasks.append(asyncio.create_task(visit("suspect", alone=True)))
    await settle()
    tasks.append(asyncio.create_task(visit("late")))
    for name in ("a", "b", "suspect", "late"):
        await settle()
        doors[name].set()
    await asyncio.gather(*tasks)
    assert seen == [["a"], ["a", "b"], ["suspect"], ["late"]]


async def test_a_suspect_that_gives_up_waiting_does_not_lock_the_gate() -> None:
    """A cancelled run leaves no claim behind."""
    gate = Gate()
    async with gate.enter(alone=False):
        waiting = asyncio.create_task(_enter(gate, alone=True))
        await asyncio.sleep(0)
        following = asyncio.create_task(_enter(gate, alone=False))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        await asyncio.wait_for(following, 5)


async def _enter(gate: Gate, alone: bool) -> None:
    async with gate.enter(alone):
        return
