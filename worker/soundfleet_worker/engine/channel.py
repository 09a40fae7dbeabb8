"""Frames over the engine's end of the socket pair: non-blocking, many messages per system call."""

from __future__ import annotations

import select
import socket

from .wire import HEADER, TO_ENGINE, FromEngine, ToEngine, frame

CHUNK = 1 << 18
CONGESTED_BYTES = 4 << 20


class Channel:
    """The socket to the supervisor. ``closed`` becomes true when the other end is gone."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._inbox = bytearray()
        self._outbox = bytearray()
        self.closed = False

    @property
    def congested(self) -> bool:
        """Whether the supervisor is far behind with reading: nothing more should be made for it."""
        return len(self._outbox) > CONGESTED_BYTES

    def receive(self) -> list[ToEngine]:
        """Return the messages that have arrived, without waiting."""
        while not self.closed:
            try:
                data = self._socket.recv(CHUNK)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            self.closed = not data
            self._inbox += data
            if len(data) < CHUNK:
                break
        return self._parse() if self._inbox else []

    def _parse(self) -> list[ToEngine]:
        messages, start, size = [], 0, len(self._inbox)
        with memoryview(self._inbox) as view:
            while start + HEADER.size <= size:
                end = start + HEADER.size + HEADER.unpack_from(view, start)[0]
                if end > size:
                    break
                messages.append(TO_ENGINE.decode(view[start + HEADER.size : end]))
                start = end
        del self._inbox[:start]
        return messages

    def send(self, message: FromEngine) -> None:
        """Put a message into the outbox."""
        self._outbox += frame(message)

    def flush(self) -> None:
        """Hand over what the socket takes now; the rest stays in the outbox."""
        while self._outbox and not self.closed:
            try:
                sent = self._socket.send(self._outbox)
            except BlockingIOError:
                return
            except ConnectionError:
                self.closed = True
                return
            del self._outbox[:sent]

    def drain(self, timeout_sec: float) -> None:
        """Flush everything, waiting for the supervisor at most so long each time."""
        while self._outbox and not self.closed:
            self.flush()
            if self._outbox and not select.select([], [self._socket], [], timeout_sec)[1]:
                return

    def wait(self, wake_fd: int, timeout_sec: float) -> None:
        """Sleep until a message arrives, the outbox can go on, a byte stands in ``wake_fd``, or the time is over."""
        sock = self._socket.fileno()
        select.select([sock, wake_fd], [sock] if self._outbox else [], [], timeout_sec)
