"""A process that does not outlive its parent: stopped on exit, and by the kernel when the parent is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from soundfleet_schemas import ErrorCode, error

PR_SET_PDEATHSIG = 1
START_TIMEOUT_SEC = 30.0
STOP_GRACE_SEC = 10.0
LOG_TAIL_LINES = 5

_libc = ctypes.CDLL(None, use_errno=True)  # loaded before any fork: the child may only call into it


class Child:
    """One process of the local stack, in its own process group, with its output in a log file.

    Started from another thread than the main one, it misses the kernel's protection: that is bound to the thread.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        orphaned: signal.Signals = signal.SIGTERM,
    ) -> None:
        """``orphaned`` is what the kernel sends to the process when its parent is killed."""
        self.name = name
        self.log = log
        self._argv = list(argv)
        self._env = None if env is None else dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._orphaned = orphaned
        self._log_start = 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None and self.running else None

    def start(self) -> None:
        """Start the process; its log is appended to."""
        with self.log.open("ab") as sink:
            self._log_start = sink.tell()
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=self._env,
                process_group=0,  # a Ctrl-C on the terminal is the parent's to answer
                preexec_fn=_die_with(os.getpid(), self._orphaned),
            )

    def wait_ready(self, ready: Callable[[], bool], code: ErrorCode, timeout_sec: float = START_TIMEOUT_SEC) -> None:
        """Return once ``ready()`` is true. Raises ``code`` with the log's last lines when that does not come."""
        deadline = time.monotonic() + timeout_sec
        while not ready():
            if not self.running:
                status = None if self._process is None else self._process.returncode
                raise error(code, f"{self.name} ended with status {status}: {self.tail()}", self._advice())
            if time.monotonic() > deadline:
                raise error(code, f"{self.name} is not ready after {timeout_sec:g} s: {self.tail()}", self._advice())
            time.sleep(0.02)

    def said(self) -> str:
        """What the process has logged since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def tail(self) -> str:
        """The last lines of the log, as one."""
        lines = self.said().splitlines()
        return " | ".join(line.strip() for line in lines[-LOG_TAIL_LINES:]) or "it wrote no log"

    def _advice(self) -> str:
        return f"Read {self.log}"

    def stop(self, grace_sec: float = STOP_GRACE_SEC) -> int | None:
        """Ask the process to end, kill it after ``grace_sec``; return its exit status."""
        if self._process is None:
            return None
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(grace_sec)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.returncode

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._process is not None and self.running:
            self._process.kill()
            self._process.wait()

    def wait(self, timeout_sec: float | None = None) -> int | None:
        """Wait for the process to end by itself; None when it still runs after ``timeout_sec``."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout_sec)
        except subprocess.TimeoutExpired:
            return None


def _die_with(parent: int, number: signal.Signals) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux") or threading.current_thread() is not threading.main_thread():
        return None  # the signal would come at the end of the thread, not of the process

    def arm() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # the parent died between fork and prctl
            os.kill(os.getpid(), number)

    return arm


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
