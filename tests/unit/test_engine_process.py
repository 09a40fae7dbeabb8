"""The engine as a process: a real child, a real socket pair, a foreign backend."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest

from soundfleet_schemas import BackendStatus, ErrorCode, GenerationRequest, Stage
from soundfleet_worker.engine.config import EngineConfig
from soundfleet_worker.engine.wire import (
    EXIT_ORPHANED,
    EXIT_POISONED,
    EXIT_REFUSED,
    FROM_ENGINE,
    HEADER,
    Cancel,
    Cancelled,
    Failed,
    Finished,
    FromEngine,
    Progress,
    Ready,
    Shutdown,
    Start,
    frame,
)

HERE = Path(__file__).parent
TRIAL = EngineConfig(device="cpu", threads=1, foreign="trial_backend:make", only=("generate.trial",))
M = TypeVar("M")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE)}


class Child:
    """An engine process and this end of its socket."""

    def __init__(self, config: EngineConfig, scratch: Path) -> None:
        self.scratch = scratch
        self.socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", "soundfleet_worker.engine", "--fd", str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(
                [*command, "--config", msgspec.json.encode(config).decode()],
                pass_fds=(theirs.fileno(),),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
            )
        self._buffer = bytearray()
        self.heard: list[FromEngine] = []

    def send(self, *messages: Any) -> None:
        self.socket.sendall(b"".join(map(frame, messages)))

    def start(self, run: str, prompt: str, backend: str = "trial") -> Start:
        request = GenerationRequest(prompt=prompt, duration_sec=5, backend=backend)
        return Start(run=run, job_id=run, request=request, backend=backend, scratch=str(self.scratch))

    def hear(self, kind: type[M], run: str | None = None, timeout: float = 60.0) -> M:
        """Return the first message of a kind, of a run; fails when none comes."""
        return self.hear_until(
            lambda m: isinstance(m, kind) and (run is None or getattr(m, "run", None) == run), timeout
        )

    def hear_until(self, wanted: Callable[[Any], bool], timeout: float = 60.0) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            while len(self._buffer) >= HEADER.size:
                end = HEADER.size + HEADER.unpack_from(self._buffer)[0]
                if len(self._buffer) < end:
                    break
                message = FROM_ENGINE.decode(bytes(self._buffer[HEADER.size : end]))
                del self._buffer[:end]
                self.heard.append(message)
                if wanted(message):
                    return message
            readable, _, _ = select.select([self.socket], [], [], max(deadline - time.monotonic(), 0))
            assert readable, f"nothing more came after {self.heard[-3:]}"
            data = self.socket.recv(1 << 20)
            assert data, f"the engine hung up after {self.heard[-3:]}"
            self._buffer += data

    def end(self) -> tuple[int, str, str]:
        """Wait for the exit; returns status, standard output and standard error."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode(), err.decode()

    def close(self) -> None:
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Callable[[EngineConfig], Child]]:
    """Spawns engines; none outlives the test."""
    children: list[Child] = []

    def spawn(config: EngineConfig = TRIAL) -> Child:
        children.append(Child(config, tmp_path))
        return children[-1]

    yield spawn
    for child in children:
        child.close()


@pytest.fixture
def engine(engines: Callable[[EngineConfig], Child]) -> Child:
    """An engine with the trial backend, which has said that it is ready."""
    child = engines(TRIAL)
    child.hear(Ready)
    return child


def test_it_introduces_itself_and_runs_a_job(engine: Child) -> None:
    """Ready comes first; audio comes as a file in scratch."""
    first = engine.heard[0]
    assert isinstance(first, Ready)
    assert (first.device, [(b.backend, b.status) for b in first.backends]) == ("cpu", [("trial", BackendStatus.Ready)])
    engine.send(engine.start("a", "audio"))
    done = engine.hear(Finished, "a")
    assert done.peak_memory_mb > 1
    assert np.load(done.outputs[0].path).shape == (2, 100)


def test_a_cancel_stops_a_run_midway(engine: Child) -> None:
    """It is answered with how far the run came; another run is not touched."""
    engine.send(engine.start("a", "slow 100000"), engine.start("b", "slow 20"))
    engine.hear_until(lambda m: isinstance(m, Progress) and m.run == "a" and m.stage is Stage.infer)
    engine.send(Cancel(run="a"))
    assert 0 < engine.hear(Cancelled, "a").current_step < 100_000
    engine.hear(Finished, "b")


def test_failures_are_told_apart(engine: Child) -> None:
    """A bad run and one that never fits fail alone, in one batch with a good one."""
    engine.send(engine.start("good", "slow 5"), engine.start("bad", "fail 5"), engine.start("big", "memory 5"))
    engine.hear(Finished, "good")
    ends = {m.run: m.error.code for m in engine.heard if isinstance(m, Failed)}
    while len(ends) < 2:
        message = engine.hear(Failed)
        ends[message.run] = message.error.code
    assert ends == {"bad": ErrorCode.MODEL_INFERENCE_FAILED, "big": ErrorCode.OUT_OF_MEMORY}


def test_a_poisoned_device_ends_the_process(engine: Child) -> None:
    """The last word comes through, and the status says why."""
    engine.send(engine.start("a", "poison"))
    failed = engine.hear(Failed, "a")
    assert (failed.poisoned, failed.error.code) == (True, ErrorCode.DEVICE_FAILED)
    assert engine.end()[0] == EXIT_POISONED


def test_a_crash_is_seen_from_outside(engine: Child) -> None:
    """The socket closes and the status is the signal's."""
    engine.send(engine.start("a", "crash"))
    assert engine.end()[0] == -signal.SIGSEGV


def test_it_ends_when_the_supervisor_hangs_up(engine: Child) -> None:
    """With runs active."""
    engine.send(engine.start("a", "slow 100000"))
    engine.hear(Progress, "a")
    engine.socket.close()
    assert engine.end()[0] == EXIT_ORPHANED


def test_it_ends_when_the_supervisor_hangs_up_while_it_sleeps(engine: Child) -> None:
    """Without any run."""
    engine.socket.close()
    assert engine.end()[0] == EXIT_ORPHANED


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_hanging_engine_dies_with_its_supervisor(tmp_path: Path) -> None:
    """The kernel kills it when the parent is killed, though it never reads its socket again."""
    script = textwrap.dedent(f"""
        import sys, time
        sys.path.insert(0, {str(HERE)!r})
        from pathlib import Path
        from test_engine_process import Child, Ready, Progress, TRIAL
        child = Child(TRIAL, Path({str(tmp_path)!r}))
        child.hear(Ready)
        child.send(child.start("a", "hang 2"))
        child.hear(Progress, "a")
        print(child.process.pid, flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment()) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < deadline, "the engine outlives its supervisor"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie that nobody collects."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_sigterm_ends_it_in_order_and_sigint_is_ignored(engine: Child) -> None:
    """Busy or not."""
    engine.process.send_signal(signal.SIGINT)
    engine.send(engine.start("a", "slow 100000"))
    engine.hear(Progress, "a")
    engine.process.send_signal(signal.SIGTERM)
    assert engine.end()[0] == 0


def test_sigterm_wakes_a_sleeping_engine(engine: Child) -> None:
    """It does not wait for the next message."""
    engine.process.send_signal(signal.SIGTERM)
    assert engine.end()[0] == 0


def test_shutdown_ends_it_in_order(engine: Child) -> None:
    """Status 0."""
    engine.send(Shutdown())
    assert engine.end()[0] == 0


def test_what_libraries_print_goes_to_stderr(engine: Child) -> None:
    """From Python and from C."""
    engine.send(engine.start("a", "print"))
    engine.hear(Finished, "a")
    engine.send(Shutdown())
    _status, out, err = engine.end()
    assert out == ""
    assert "a library that talks" in err
    assert "and one in C" in err


def test_thousands_of_small_runs_pass(engine: Child) -> None:
    """Each ends once; none needs a message but its end."""
    engine.send(engine.start("first", "nothing"))
    engine.hear(Finished, "first")
    names = [f"run {i}" for i in range(3000)]
    engine.send(*(engine.start(name, "nothing") for name in names))
    engine.hear(Finished, names[-1])
    assert sorted(m.run for m in engine.heard if isinstance(m, Finished)) == sorted([*names, "first"])
    assert len(engine.heard) < len(names) + 200


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a driver, and auto asks torch for devices")
def test_sketches_need_no_torch(engines: Callable[[EngineConfig], Child]) -> None:
    """An engine that only writes sketches stays small."""
    child = engines(EngineConfig(device="auto", only=("generate.sketch",)))
    child.send(child.start("a", "quiet night", backend="sketch"))
    done = child.hear(Finished, "a")
    assert np.load(done.outputs[0].path).shape == (2, 5 * 48_000)
    assert "libtorch" not in Path(f"/proc/{child.process.pid}/maps").read_text()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (EngineConfig(foreign="no_such_module:make"), "INVALID_SETTING"),
        (EngineConfig(only=("generate.nothing",)), "generate.nothing"),
        (EngineConfig(device="tpu"), "auto, cpu, cuda"),
    ],
)
def test_a_wrong_configuration_is_refused(
    engines: Callable[[EngineConfig], Child], config: EngineConfig, words: str
) -> None:
    """With a status of its own and one line that says what to do."""
    status, _out, err = engines(config).end()
    assert status == EXIT_REFUSED
    assert words in err
    assert len(err.strip().splitlines()) == 1
