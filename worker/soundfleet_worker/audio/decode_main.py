"""The decoder's process: one file in, one JSON line out. Started by ``sandbox``.

It binds itself before the first byte of the file is read: death with its parent, processor time, size of what it
writes, number of files, no core dump; and memory, once the libraries are loaded.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TypeAlias

import msgspec

from soundfleet_schemas import ErrorCode, ErrorInfo, Limits, Record, SoundfleetError, encode, error

from ..backends.scratch import is_full, scratch_full
from .info import AudioInfo

_PR_SET_PDEATHSIG = 1


class Box(Record, frozen=True, kw_only=True):
    """What the process may use."""

    memory_bytes: int
    """Of address space, beyond what Python and FFmpeg's libraries take once they are loaded."""
    cpu_sec: int
    wall_sec: float
    """Kept by the parent."""
    file_bytes: int
    """Of each file that it writes."""
    open_files: int = 64


class Order(Record, frozen=True, kw_only=True):
    """What the process is to do; its only argument, as JSON."""

    source: str
    destination: str | None
    """None: only look what the file is."""
    sample_rate: int
    limits: Limits
    box: Box
    parent: int
    """Process id. Its death is ours."""


class Success(Record, frozen=True, kw_only=True, tag="success"):
    """The reply when ``destination`` is written, or the file was looked at."""

    info: AudioInfo


class Failure(Record, frozen=True, kw_only=True, tag="failure"):
    """The reply when it could not be."""

    error: ErrorInfo


Reply: TypeAlias = Success | Failure


def main(argument: str) -> int:
    """Decode as ordered, print the reply, and return the exit status."""
    order = msgspec.json.decode(argument, type=Order)
    enter(order.box, order.parent)
    try:
        reply: Reply = Success(info=_decode(order))
    except SoundfleetError as exc:
        reply = Failure(error=exc.info)
    sys.stdout.buffer.write(encode(reply) + b"\n")
    sys.stdout.flush()
    return 0


def enter(box: Box, parent: int) -> None:
    """Bind this process in all but memory, and end it if its parent is already gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    bound(resource.RLIMIT_CORE, 0, 0)
    bound(resource.RLIMIT_CPU, box.cpu_sec, box.cpu_sec + 1)  # at the hard limit the signal is SIGKILL
    bound(resource.RLIMIT_FSIZE, box.file_bytes, box.file_bytes)
    bound(resource.RLIMIT_NOFILE, box.open_files, box.open_files)


def bound(what: int, soft: int, hard: int) -> None:
    """Set a limit of this process, or the lower one that it has already: nobody but root may raise that."""
    own = resource.getrlimit(what)[1]
    if own != resource.RLIM_INFINITY:
        soft, hard = min(soft, own), min(hard, own)
    resource.setrlimit(what, (soft, hard))


def bind_memory(memory_bytes: int) -> None:
    """Allow ``memory_bytes`` more address space than this process has now."""
    if sys.platform == "linux":  # elsewhere the limit is not kept, or not measured in this way
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        bound(resource.RLIMIT_AS, limit, limit)


def _decode(order: Order) -> AudioInfo:
    from .decode import decode  # loads FFmpeg's libraries, which differ in size from build to build
    from .probe import probe

    bind_memory(order.box.memory_bytes)
    try:
        if order.destination is None:
            return probe(Path(order.source), order.limits)
        return decode(Path(order.source), Path(order.destination), order.sample_rate, order.limits)
    except MemoryError as exc:
        raise error(
            ErrorCode.DECODE_LIMIT_EXCEEDED, f"decoding needs more than {order.box.memory_bytes >> 20} MiB of memory"
        ) from exc
    except OSError as exc:
        if is_full(exc):
            raise scratch_full(exc) from None
        if exc.errno != errno.EFBIG:
            raise
        raise error(
            ErrorCode.DECODE_LIMIT_EXCEEDED, f"decoding writes more than {order.box.file_bytes >> 20} MiB"
        ) from exc


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
