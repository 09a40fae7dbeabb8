"""The process in which yt-dlp runs: started, listened to, and ended with all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

import msgspec

from soundfleet_schemas import ErrorCode, SoundfleetError, encode, error, from_info

from ..audio.decode_main import Failure
from .policy import OnProgress
from .video_order import Order, Progress, Reply, Success

_LINE_BYTES = 1 << 16
_TAIL_BYTES = 1 << 12
"""Of its complaints, for a message."""
_LOOKS, _LOOK_EVERY_SEC = 100, 0.02
"""For the end of processes that were killed."""
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What the process inherits. The fleet's credentials and the proxies are not among it."""
_FIXED_ENVIRONMENT = {"YTDLP_NO_PLUGINS": "1", "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
_HOMES = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DENO_DIR")

_COMMAND = (sys.executable, "-P", "-s", "-m", f"{__package__}.video_main")
"""-P: no module is imported from the working directory. -s: nor from the user's own."""

_REPLY: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


async def converse(order: Order, total_sec: float, on_progress: OnProgress) -> Success:
    """Run the process to its end, pass its progress on, and return its success.

    Raises the error that it reports, SOURCE_UNAVAILABLE after ``total_sec``, DECODE_LIMIT_EXCEEDED when a limit ended
    it, WORKER_CRASHED when somebody did, or INTERNAL_ERROR.
    """
    process = await asyncio.create_subprocess_exec(
        *_COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(order.directory),
        cwd=order.directory,
        limit=_LINE_BYTES,
        start_new_session=True,  # it and the JavaScript runtime are one group, which can be killed as one
    )
    timer = asyncio.timeout(total_sec)
    try:
        async with timer:
            _instruct(process, order)
            reply, complaint = await _listen(process, on_progress)
    except TimeoutError as exc:
        if not timer.expired():
            raise
        raise error(ErrorCode.SOURCE_UNAVAILABLE, f"fetching took over {total_sec:g} s") from exc
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
        await _bury(process.pid)
    assert process.returncode is not None
    return _judge(process.returncode, reply, complaint, order)


async def _bury(group: int) -> None:
    """Take leave of what an ended process leaves behind: to the first process of a container it falls as its own."""
    for _ in range(_LOOKS):
        if not _has_any(group):
            return
        await asyncio.sleep(_LOOK_EVERY_SEC)


def _has_any(group: int) -> bool:
    """Whether there are processes of a group that are ours; those that have ended are dismissed."""
    try:
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _instruct(process: asyncio.subprocess.Process, order: Order) -> None:
    """Hand the order over; a process that is gone by now is heard of by its end."""
    assert process.stdin is not None
    process.stdin.write(encode(order))
    process.stdin.close()


def _environment(directory: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return inherited | _FIXED_ENVIRONMENT | dict.fromkeys(_HOMES, directory)


async def _listen(process: asyncio.subprocess.Process, on_progress: OnProgress) -> tuple[Reply | None, bytes]:
    """Return the last reply and the end of the complaints, when the process has ended."""
    assert process.stdout is not None
    assert process.stderr is not None
    tail = asyncio.create_task(_tail(process.stderr))
    try:
        reply: Reply | None = None
        while line := await _line(process.stdout):
            reply = _read(line)
            if isinstance(reply, Progress):
                on_progress(reply.size_bytes, reply.total_bytes)
        await process.wait()
        return reply, await tail
    finally:
        tail.cancel()


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readline()
    except ValueError as exc:
        raise error(ErrorCode.INTERNAL_ERROR, "yt-dlp's process sent a line without an end") from exc


def _read(line: bytes) -> Reply:
    try:
        return _REPLY.decode(line)
    except msgspec.MsgspecError as exc:
        raise error(ErrorCode.INTERNAL_ERROR, f"yt-dlp's process sent what cannot be read: {exc}") from exc


async def _tail(stream: asyncio.StreamReader) -> bytes:
    """Read to the end; keep the last of it."""
    kept = b""
    while chunk := await stream.read(_TAIL_BYTES):
        kept = (kept + chunk)[-_TAIL_BYTES:]
    return kept


def _judge(status: int, reply: Reply | None, complaint: bytes, order: Order) -> Success:
    """Return a success; raise what else the process said, or what its end means."""
    if isinstance(reply, Success) and status == 0:
        return reply
    if isinstance(reply, Failure):
        raise from_info(reply.error)
    raise _verdict(status, complaint, order)


def _verdict(status: int, complaint: bytes, order: Order) -> SoundfleetError:
    if status >= 0:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        return error(ErrorCode.INTERNAL_ERROR, f"yt-dlp's process ended with status {status}: {last or 'no message'}")
    name = signal.Signals(-status).name
    match -status:
        case signal.SIGXCPU:
            message = f"reading the page used over {order.box.cpu_sec} s of processor time"
            return error(ErrorCode.DECODE_LIMIT_EXCEEDED, message, "Upload the file.")
        case signal.SIGKILL:
            message = "yt-dlp's process was killed, most likely for its use of memory"
            return error(ErrorCode.DECODE_LIMIT_EXCEEDED, message, "Upload the file.")
        case _:
            return error(ErrorCode.WORKER_CRASHED, f"yt-dlp's process was ended by {name}")
