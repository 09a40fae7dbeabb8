"""The engine's process: its place under the supervisor, its signals, and the loop that feeds the engine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

from ..backends.registry import build
from .channel import Channel
from .config import EngineConfig
from .devices import budget_bytes, choose_device, take_device, tune
from .faults import Poisoned
from .loop import Engine
from .wire import EXIT_ORPHANED, EXIT_POISONED

PR_SET_PDEATHSIG = 1
LOOK_AGAIN_SEC = 30.0
"""How often backends that were not installed are looked for again."""
FAREWELL_SEC = 2.0
"""How long a last message may wait for a supervisor that does not read."""


def serve(fd: int, config: EngineConfig) -> int:
    """Run an engine on the inherited socket ``fd`` until told to end; returns the exit status.

    Raises INVALID_SETTING or INVALID_BACKEND before the first message when the configuration is wrong, DEVICE_FAILED
    when the device cannot be had.
    """
    tune(config.threads)
    device = choose_device(config.device)
    take_device(device)
    factories = build(config.foreign, config.only, config.models)
    with socket.socket(fileno=fd) as sock, Signals() as signals:
        channel = Channel(sock)
        engine = Engine(
            factories,
            device=device,
            budget_bytes=budget_bytes(device, config.memory_mb),
            send=channel.send,
            flush=channel.flush,
            receive=channel.receive,
            progress_every_sec=config.progress_every_sec,
        )
        try:
            return _loop(engine, channel, signals)
        except Poisoned:
            channel.drain(FAREWELL_SEC)
            sys.stderr.flush()
            os._exit(EXIT_POISONED)  # an orderly exit would call into the broken context, and may hang there


def _loop(engine: Engine, channel: Channel, signals: Signals) -> int:
    engine.announce()
    channel.flush()
    looked_at = time.monotonic()
    while not (engine.stopped or signals.stop):
        if time.monotonic() - looked_at > LOOK_AGAIN_SEC:
            engine.look_again()
            looked_at = time.monotonic()
        for message in channel.receive():
            engine.handle(message)
        if channel.closed:
            return EXIT_ORPHANED
        busy = False if channel.congested else engine.tick()
        channel.flush()
        if not busy and not engine.stopped:
            channel.wait(signals.wake_fd, LOOK_AGAIN_SEC)
    engine.close()
    channel.drain(FAREWELL_SEC)
    return 0


class Signals:
    """SIGTERM asks for an orderly end and wakes the loop; SIGINT is the supervisor's business."""

    def __init__(self) -> None:
        self.stop = False
        self.wake_fd, self._write_fd = os.pipe()

    def __enter__(self) -> Signals:
        os.set_blocking(self._write_fd, False)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.wake_fd)
        os.close(self._write_fd)

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        self.stop = True


def die_with_parent() -> None:
    """Have the kernel kill this process when the supervisor dies, even in the middle of a long step (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def be_the_one_to_kill() -> None:
    """When the machine runs out of memory, let the kernel choose this process and spare the supervisor (Linux)."""
    with contextlib.suppress(OSError):  # elsewhere, or where /proc is closed, the kernel's own choice stands
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def parent_is_gone(fd: int) -> bool:
    """Whether the supervisor died before ``die_with_parent``: its end of the socket is closed."""
    poll = select.poll()
    poll.register(fd, select.POLLHUP)
    return bool(poll.poll(0))


def quiet_stdout() -> None:
    """Send what libraries print to stderr: the engine has no standard output."""
    os.dup2(2, 1)
    sys.stdout = sys.stderr
