"""One engine process from its spawn to its end: the socket, the exit, and its last words."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ..engine.wire import FROM_ENGINE, HEADER, FromEngine, Shutdown, ToEngine, frame
from . import clock
from .crash import Death

TERM_GRACE_SEC = 2.0
"""Between SIGTERM and SIGKILL."""
_WORDS_KEPT = 60
"""Lines of the engine's output that are kept for the post-mortem."""

Command = Callable[[int], Sequence[str]]
"""Makes the command line for an engine that talks on a file descriptor."""


class EngineProcess(asyncio.Protocol):
    """A child process in its own session, and the messages to and from it."""

    def __init__(self, on_message: Callable[[FromEngine], None]) -> None:
        self._on_message = on_message
        self._buffer = bytearray()
        self._outbox = bytearray()
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._words: deque[str] = deque(maxlen=_WORDS_KEPT)
        self._oom_kills_before = _oom_kills()
        self._kill_timer: asyncio.TimerHandle | None = None
        self.spawned_at = clock.now()

    @classmethod
    async def spawn(cls, command: Command, on_message: Callable[[FromEngine], None]) -> EngineProcess:
        """Start an engine that is connected to this process by a socket pair."""
        engine = cls(on_message)
        ours, theirs = socket.socketpair()
        try:
            engine._process = await asyncio.create_subprocess_exec(
                *command(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C at the terminal is for the supervisor alone
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        await asyncio.get_running_loop().create_unix_connection(lambda: engine, sock=ours)
        return engine

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def connected(self) -> bool:
        """Whether messages reach it, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, message: ToEngine) -> None:
        """Send a message, together with others of the same moment: every write wakes the engine.

        One to an engine that is gone is dropped, and its end is reported by ``wait``.
        """
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox += frame(message)

    def _flush(self) -> None:
        if self._transport is not None and self.connected:
            self._transport.write(bytes(self._outbox))
        self._outbox.clear()

    async def wait(self) -> Death:
        """Wait for the process to end, and for the last of its words."""
        assert self._process is not None
        status = None
        try:
            await self._listen()
            status = await self._process.wait()
        finally:
            if status is None:  # this task was cancelled: leave no process behind
                self._signal_group(signal.SIGKILL)
            if self._kill_timer is not None:
                self._kill_timer.cancel()
            if self._transport is not None:
                self._transport.abort()
        self._signal_group(signal.SIGKILL)  # whatever the engine itself has started
        return Death(status, _oom_kills() - self._oom_kills_before, "\n".join(self._words))

    def kill(self, grace_sec: float = TERM_GRACE_SEC) -> None:
        """Send SIGTERM now and SIGKILL after the grace."""
        if self._kill_timer is None:
            self._signal_group(signal.SIGTERM)
            self._kill_timer = asyncio.get_running_loop().call_later(grace_sec, self._signal_group, signal.SIGKILL)

    def shut_down(self) -> None:
        """Ask the engine to drop everything and exit; kill it when it does not."""
        self.send(Shutdown())
        if self._kill_timer is None:
            self._kill_timer = asyncio.get_running_loop().call_later(TERM_GRACE_SEC, self._signal_group, signal.SIGKILL)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.kill()  # an engine that cannot be spoken to is of no use

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        start, size = 0, len(self._buffer)
        while size - start >= HEADER.size:
            end = start + HEADER.size + HEADER.unpack_from(self._buffer, start)[0]
            if end > size:
                break
            payload = bytes(memoryview(self._buffer)[start + HEADER.size : end])
            start = end
            try:
                message = FROM_ENGINE.decode(payload)
            except msgspec.DecodeError as exc:
                self._words.append(f"the engine sent what is no message: {exc}")
                return self.kill()
            self._on_message(message)
        del self._buffer[:start]
        return None

    async def _listen(self) -> None:
        """Pass the engine's output on to our stderr until it ends."""
        assert self._process is not None
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # a line longer than the reader's limit was dropped
                continue
            if not line:
                return
            self._words.append(line.decode(errors="replace").rstrip())
            with contextlib.suppress(OSError, ValueError):  # our own stderr is closed
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def _oom_kills() -> int:
    """Processes that the kernel has killed for want of memory, on this machine and in this control group."""
    count = 0
    for path in (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events")):
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    count += int(value)
    return count
