"""The engine's keeper, before engines that are as bad as engines can be."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from soundfleet_schemas import ErrorCode, GenerationRequest, SoundfleetError
from soundfleet_worker.engine.wire import EXIT_REFUSED, Finished, Start
from soundfleet_worker.supervisor import engine_process, keeper
from soundfleet_worker.supervisor.assignment import EngineFailed
from soundfleet_worker.supervisor.keeper import Keeper

ENGINE = """
import os, socket, sys, time
from soundfleet_schemas import ErrorCode, Stage, error
from soundfleet_worker.engine.wire import *
sock = socket.socket(fileno=int(sys.argv[1]))
send = lambda message: sock.sendall(frame(message))
def receive():
    head = sock.recv(HEADER.size, socket.MSG_WAITALL)
    if len(head) < HEADER.size: sys.exit(77)
    return TO_ENGINE.decode(sock.recv(HEADER.unpack(head)[0], socket.MSG_WAITALL))
send(Ready(device="cpu", backends=()))
while True:
    message = receive()
    if isinstance(message, Shutdown): sys.exit(0)
    if isinstance(message, Cancel):
        if not message.run.startswith("deaf"):
            send(Cancelled(run=message.run, current_step=1, total_steps=2))
        continue
    word = message.request.prompt
    if word == "finish":
        send(Finished(run=message.run, outputs=(), sample_rate=1, parameters={"pid": os.getpid()}, warnings=(),
                      load_sec=0, infer_sec=0, peak_memory_mb=1))
    if word == "begin": send(Progress(run=message.run, stage=Stage.infer, current_step=0, total_steps=2))
    if word == "poison":
        info = error(ErrorCode.DEVICE_FAILED, "the context is broken").info
        send(Failed(run=message.run, error=info, poisoned=True)); time.sleep(60)
    if word == "garbage": sock.sendall(HEADER.pack(3) + b"???"); time.sleep(60)
    if word == "hang up": sock.close(); time.sleep(60)
    if word == "exit": sys.exit(5)
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(keeper, "TICK_SEC", 0.02)
    monkeypatch.setattr(keeper, "DROP_GRACE_SEC", 0.3)
    monkeypatch.setattr(keeper, "OVERDUE_GRACE_SEC", 0.3)
    monkeypatch.setattr(keeper, "BACKOFF_SEC", (0.01, 0.05))
    monkeypatch.setattr(engine_process, "TERM_GRACE_SEC", 0.3)


@pytest.fixture
async def kept(quick: None) -> AsyncIterator[Keeper]:  # noqa: ARG001 - set before the keeper begins
    """A keeper with its engine."""
    one = Keeper(lambda fd: [sys.executable, "-c", ENGINE, str(fd)], structlog.get_logger())
    keeping = asyncio.create_task(one.run())
    await one.wait_ready()
    yield one
    pid = one.pid
    await one.close(keeping)
    assert keeping.exception() is None
    assert not os.path.exists(f"/proc/{pid}")  # noqa: ASYNC240 - not a disk


def start(prompt: str, name: str = "run") -> Start:
    request = GenerationRequest(prompt=prompt, duration_sec=5, backend="sketch", seed=1)
    return Start(run=name, job_id=request.id, request=request, backend="sketch", scratch="/nowhere")


def begin(kept: Keeper, prompt: str, name: str = "run", limit_sec: float = 60.0) -> asyncio.Task[Finished]:
    return asyncio.create_task(kept.perform(start(prompt, name), limit_sec, lambda _: None))


async def until(predicate: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not predicate():  # noqa: ASYNC110 - another process's doing has no event
            await asyncio.sleep(0.01)


async def test_a_run_is_performed(kept: Keeper) -> None:
    """Start goes there, Finished comes back."""
    made = await begin(kept, "finish")
    assert made.parameters["pid"] == kept.pid


@pytest.mark.parametrize("prompt", ["exit", "garbage", "hang up"])
async def test_a_run_alone_on_an_engine_that_dies_is_to_blame(kept: Keeper, prompt: str) -> None:
    """By an exit, by nonsense on the wire, by hanging up: WORKER_CRASHED; and the next engine serves."""
    first = kept.pid
    with pytest.raises(EngineFailed) as caught:
        await begin(kept, prompt)
    assert caught.value.code is ErrorCode.WORKER_CRASHED
    assert (await begin(kept, "finish")).parameters["pid"] != first


async def test_of_several_the_one_to_blame_is_found_by_running_them_alone(kept: Keeper) -> None:
    """Two that do nothing wrong and one that kills: only that one fails."""
    waiting = [begin(kept, "begin", name) for name in ("a", "b")]
    await until(lambda: len(kept._assignments) == 2)
    with pytest.raises(EngineFailed):
        await begin(kept, "exit", "c")
    for task in waiting:
        assert not task.done()
        task.cancel()
    await asyncio.wait(waiting)


async def test_a_poisoned_engine_is_replaced_and_its_victim_gets_the_device_error(kept: Keeper) -> None:
    """DEVICE_FAILED, not WORKER_CRASHED, although the engine had to be killed."""
    companion = begin(kept, "begin", "a")
    await until(lambda: kept._assignments)
    first = kept.pid
    with pytest.raises(EngineFailed) as caught:
        await begin(kept, "poison", "b")
    assert caught.value.code is ErrorCode.DEVICE_FAILED
    await until(lambda: kept.ready and kept.pid != first and kept._assignments)
    companion.cancel()
    await asyncio.wait({companion})


async def test_a_cancelled_run_is_dropped_before_its_caller_goes_on(kept: Keeper) -> None:
    """Its files may be removed only when the engine has let go of them; the engine lives on."""
    first, task = kept.pid, begin(kept, "begin")
    await until(lambda: kept._assignments)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert (kept.pid, kept._assignments) == (first, {})


async def test_an_engine_that_does_not_let_go_of_a_run_is_killed_and_others_are_begun_again(kept: Keeper) -> None:
    """The deaf run ends as it was told to; its companion is innocent and finishes nothing of its attempts."""
    first = kept.pid
    companion = begin(kept, "begin", "a")
    deaf = begin(kept, "begin", "deaf")
    await until(lambda: len(kept._assignments) == 2)
    deaf.cancel()
    await asyncio.wait({deaf})
    assert deaf.cancelled()
    await until(lambda: kept.ready and kept.pid != first and "a" in kept._assignments)
    assert not companion.done()
    companion.cancel()
    await asyncio.wait({companion})


@pytest.mark.parametrize(("prompt", "name"), [("begin", "a"), ("begin", "deaf"), ("nothing", "a"), ("nothing", "deaf")])
async def test_a_run_over_its_limit_is_ended_whether_the_engine_listens_or_not(
    kept: Keeper, prompt: str, name: str
) -> None:
    """Also one that never said that it had begun: alone on the engine, it has."""
    with pytest.raises(SoundfleetError) as caught:
        await begin(kept, prompt, name, limit_sec=0.2)
    assert caught.value.code is ErrorCode.TIME_LIMIT_EXCEEDED


async def test_a_silent_engine_is_killed(kept: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs wait for it and it says nothing: after the limit it is replaced, and the runs are tried one by one."""
    monkeypatch.setattr(keeper, "STALL_LIMIT_SEC", 0.3)
    tasks = [begin(kept, "nothing", name) for name in ("a", "b")]
    done, _ = await asyncio.wait(tasks, timeout=30)
    assert len(done) == 2
    for task in tasks:
        assert isinstance(task.exception(), EngineFailed)


async def test_engines_that_do_not_start_are_given_up(quick: None) -> None:  # noqa: ARG001
    """A few attempts, then an error that repeats the engine's last words."""
    one = Keeper(lambda _: [sys.executable, "-c", "raise SystemExit('no such library')"], structlog.get_logger())
    with pytest.raises(SoundfleetError) as caught:
        await asyncio.wait_for(one.run(), 60)
    assert caught.value.code is ErrorCode.BACKEND_NOT_READY
    assert "no such library" in caught.value.info.message


async def test_an_engine_that_refuses_its_configuration_is_not_tried_again(
    quick: None,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    """A new process would fare no better."""
    code = f"open({str(tmp_path / 'tries')!r}, 'a').write('x'); raise SystemExit({EXIT_REFUSED})"
    one = Keeper(lambda _: [sys.executable, "-c", code], structlog.get_logger())
    with pytest.raises(SoundfleetError):
        await asyncio.wait_for(one.run(), 60)
    assert (tmp_path / "tries").read_text() == "x"
