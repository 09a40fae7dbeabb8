"""Real worker processes for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.slow import BACKENDS
from tests.stacks import Stack
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent


class WorkerProcess:
    """A worker process of a stack, with its log in a file."""

    def __init__(self, stack: Stack, name: str, **env: str) -> None:
        self.log = stack.directory / f"{name}.log"
        variables = {
            **os.environ,
            **stack.env,
            "PYTHONPATH": str(ROOT),
            "SOUNDFLEET_BACKENDS": BACKENDS,
            "SOUNDFLEET_ONLY": "generate.slow,generate.sketch",
            "SOUNDFLEET_LOG_LEVEL": "debug",
            "SOUNDFLEET_OFFLINE": "1",
            "SOUNDFLEET_DEVICE": "cpu",
            **env,
        }
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "soundfleet_worker"], env=variables, stdout=sink, stderr=sink, cwd=ROOT
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What the worker has logged, of one event or of all."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{") and line.endswith("}"):
                document = json.loads(line)
                if not name or document.get("event") == name:
                    found.append(document)
        return found

    @property
    def id(self) -> str:
        return str(self.events("worker started")[0]["worker"])

    @property
    def engine_pid(self) -> int:
        """Of the newest engine."""
        return int(self.events("engine ready")[-1]["engine_pid"])

    def wait_ready(self, engines: int = 1) -> WorkerProcess:
        """Wait until that many engines have become ready."""
        wait_until(lambda: len(self.events("engine ready")) >= engines or self.process.poll() is not None, "an engine")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End the worker as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = 30.0) -> int:
        """Drain the worker; return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout)


@contextmanager
def workers(stack: Stack) -> Iterator[Any]:
    """A function that starts workers of a stack; those that are left are stopped."""
    started: list[WorkerProcess] = []

    def start(ready: bool = True, **env: str) -> WorkerProcess:
        worker = WorkerProcess(stack, f"worker-{len(started)}", **env)
        started.append(worker)
        return worker.wait_ready() if ready else worker

    try:
        yield start
    finally:
        for worker in started:
            if worker.process.poll() is None:
                worker.send(signal.SIGCONT)
                worker.process.terminate()
                worker.process.terminate()
        for worker in started:
            try:
                worker.process.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()
                raise
