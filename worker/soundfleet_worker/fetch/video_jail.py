"""What yt-dlp may not do, whatever a page makes it try: connect elsewhere, start programs, write files elsewhere.

Python's own audit events say what is about to happen; an exception in the hook prevents it. That holds for yt-dlp and
the libraries that it uses, which all connect through Python's sockets; it is no fence against foreign machine code.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from soundfleet_schemas import SoundfleetError

from ..audio.decode_main import bound
from .guard import is_allowed, refusal
from .policy import FetchPolicy
from .video_order import Order

_PR_SET_PDEATHSIG = 1
_RUNTIME_BYTES = 1536 << 20
"""Of data, for the JavaScript runtime: it reserves 540 MiB before it begins, and YouTube's script takes 300 more."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_STARTS = frozenset(
    {"os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn", "os.startfile"}
)
_NULL = os.devnull
_UNBOUND = re.compile(r"--(allow|permission|unsafely|proxy|import|env-file|location)|-\w")
"""How the options begin that let deno reach the network, files or programs; without them it computes and no more."""
_CHANGES = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.truncate": 1, "os.chmod": 1, "os.rename": 2}
"""Events that change files, and how many paths come first with them."""
_NEVER = _STARTS | {"os.link", "os.symlink", "os.chown", "os.setxattr"}
_UNHEARD = ("curl_cffi",)
"""Libraries that yt-dlp takes where they are installed, and that connect without Python's sockets: past the hook."""
_PROCESS = re.compile(r"/proc/(\d+)/")
"""Where the secrets of other processes of this user can be read."""


class Jail:
    """The hook, and what it refused last."""

    def __init__(self, order: Order) -> None:
        self._policy: FetchPolicy = order.reach.policy
        self._directory = os.path.realpath(order.directory)
        self._runtime = order.runtime
        self._host = ""
        self.refused: SoundfleetError | None = None

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Be told an event of Python's; raise PermissionError to prevent it."""
        match event:
            case "socket.getaddrinfo":
                self._host = _text(args[0])
            case "socket.connect":
                self._connect(args[1])
            case "socket.sendto" | "socket.sendmsg" if args[1] is not None:
                self._connect(args[1])
            case "subprocess.Popen":
                self._start(args[0], args[1])
            case "open":
                self._open(args[0], args[2])
            case _ if event in _CHANGES:
                for path in args[: _CHANGES[event]]:
                    self._change(path)
            case _ if event in _NEVER:
                raise PermissionError(errno.EACCES, "no program may be started, and no file linked")

    def _connect(self, address: object) -> None:
        host, port = (str(address[0]), address[1]) if isinstance(address, tuple) else ("", 0)
        if not is_allowed(host, port, self._policy):
            self.refused = refusal(self._host or "the host", port, [host], self._policy)
            raise PermissionError(errno.EACCES, "the address may not be reached")

    def _start(self, executable: object, arguments: Sequence[object]) -> None:
        program = _text(executable if executable is not None else arguments[0])
        options = [_text(argument) for argument in arguments[1:]]
        if program != self._runtime or any(_UNBOUND.match(option) for option in options):
            raise PermissionError(errno.EACCES, "this program may not be started")

    def _open(self, path: object, flags: int) -> None:
        if flags & _WRITING:
            self._change(path)
        elif not isinstance(path, int):
            process = _PROCESS.match(os.path.realpath(_text(path)))
            if process is not None and int(process[1]) != os.getpid():
                raise PermissionError(errno.EACCES, "this file may not be read")

    def _change(self, path: object) -> None:
        if isinstance(path, int):
            return  # it is open already
        where = os.path.realpath(_text(path))
        if where != _NULL and not where.startswith(self._directory + os.sep):
            raise PermissionError(errno.EACCES, "this file may not be written")


def enter_jail(order: Order) -> Jail:
    """Bind this process for good. To be called before yt-dlp is imported."""
    sys.dont_write_bytecode = True
    os.umask(0o077)
    bound(resource.RLIMIT_DATA, order.box.memory_bytes, _RUNTIME_BYTES)
    for name in _UNHEARD:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails
    subprocess.Popen = _Heir  # type: ignore[misc]
    if order.reach.pins:
        _pin(order.reach.pins)
    jail = Jail(order)
    sys.addaudithook(jail)
    return jail


class _Heir(subprocess.Popen):  # type: ignore[type-arg]
    """The JavaScript runtime: it has memory of its own, and dies with this process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, preexec_fn=_settle)  # type: ignore[call-overload]


_PRCTL = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def _settle() -> None:
    """Between fork and exec."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
    bound(resource.RLIMIT_DATA, _RUNTIME_BYTES, _RUNTIME_BYTES)


def _pin(pins: dict[str, str]) -> None:
    """Give names their fixed addresses."""
    resolve = socket.getaddrinfo

    def pinned(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        place = pins.get(_text(host)) or pins.get("*")
        if place is None:
            return resolve(host, port, *args, **kwargs)
        address, _, fixed = place.rpartition(":")
        found = resolve(address, int(fixed), *args, **kwargs)
        sys.audit("socket.getaddrinfo", host, port, 0, 0, 0)  # the hook is to know the name
        return found

    socket.getaddrinfo = pinned


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, bytes | str | os.PathLike) else str(value)
