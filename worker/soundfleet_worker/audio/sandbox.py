"""Decoding of foreign files in a process of its own: a malicious or broken file costs a process, not a worker."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec

from soundfleet_schemas import ErrorCode, Limits, SoundfleetError, encode, error, from_info

from .decode_main import Box, Order, Reply, Success
from .info import AudioInfo
from .npy import partial

_MIB = 1 << 20
_MEMORY_BYTES = 512 * _MIB
"""Of address space for decoding: typical is 20 MiB, a large cover picture takes a few times its size."""
_CPU_SEC_PER_SEC = 0.1
"""A slow core decodes and resamples ten times faster than it plays; typical is a hundred."""
_CHILD_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR", "VIRTUAL_ENV")
"""What the child inherits. The fleet's credentials are not among it."""
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Every thread's stack and arena counts against the address space."""

_REPLY: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


async def decode_in_process(
    source: Path, destination: Path, sample_rate: int, limits: Limits, *, box: Box | None = None
) -> AudioInfo:
    """Do ``decode`` in a bound child process; ``destination`` exists afterwards only if this returns.

    Raises what ``decode`` raises, DECODE_LIMIT_EXCEEDED (memory, time, size, or killed), AUDIO_CORRUPT when the decoder
    crashed, WORKER_CRASHED when somebody ended it, or INTERNAL_ERROR. Cancelling kills the child and waits for its end.
    """
    box = box or box_for(limits, sample_rate)
    try:
        status, reply, complaint = await _run(_command(source, destination, sample_rate, limits, box), box)
        if status != 0:
            raise _verdict(status, complaint, box)
        return _read(reply)
    except BaseException:  # also a cancellation: the child may have been at any line
        _remove(destination)
        raise


async def probe_in_process(source: Path, limits: Limits, *, box: Box | None = None) -> AudioInfo:
    """Do ``probe`` in a bound child process. Raises what ``probe`` raises, and what ``decode_in_process`` adds."""
    box = box or box_for(limits, 0)
    status, reply, complaint = await _run(_command(source, None, 0, limits, box), box)
    if status != 0:
        raise _verdict(status, complaint, box)
    return _read(reply)


def _remove(destination: Path) -> None:
    partial(destination).unlink(missing_ok=True)
    destination.unlink(missing_ok=True)


def box_for(limits: Limits, sample_rate: int) -> Box:
    """Bound a decoder by the longest audio that it may write."""
    cpu_sec = round(20 + _CPU_SEC_PER_SEC * limits.max_audio_sec)
    output_bytes = round(8 * sample_rate * (limits.max_audio_sec + 1))
    return Box(memory_bytes=_MEMORY_BYTES, cpu_sec=cpu_sec, wall_sec=3.0 * cpu_sec, file_bytes=output_bytes + _MIB)


def _command(source: Path, destination: Path | None, sample_rate: int, limits: Limits, box: Box) -> list[str]:
    order = Order(
        source=str(source.absolute()),
        destination=None if destination is None else str(destination.absolute()),
        sample_rate=sample_rate,
        limits=limits,
        box=box,
        parent=os.getpid(),
    )
    # -P: no module is imported from the working directory. -s: nor from the user's own.
    return [sys.executable, "-P", "-s", "-m", f"{__package__}.decode_main", encode(order).decode()]


async def _run(command: list[str], box: Box) -> tuple[int, bytes, bytes]:
    """Run the child to its end, whatever happens here; return its status, output and complaints."""
    environment = {name: os.environ[name] for name in _CHILD_ENVIRONMENT if name in os.environ} | _ONE_THREAD
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,  # an interrupt at the terminal is the supervisor's to handle
    )
    try:
        async with asyncio.timeout(box.wall_sec):
            reply, complaint = await process.communicate()
    except TimeoutError as exc:
        raise error(ErrorCode.DECODE_LIMIT_EXCEEDED, f"decoding took over {box.wall_sec:g} s") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    assert process.returncode is not None
    return process.returncode, reply, complaint


def _verdict(status: int, complaint: bytes, box: Box) -> SoundfleetError:
    """Say what a child's exit status means."""
    if status > 0:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        return error(ErrorCode.INTERNAL_ERROR, f"the decoder ended with status {status}: {last or 'no message'}")
    name = signal.Signals(-status).name
    match -status:
        case signal.SIGXCPU:
            return error(ErrorCode.DECODE_LIMIT_EXCEEDED, f"decoding used over {box.cpu_sec} s of processor time")
        case signal.SIGXFSZ:
            return error(ErrorCode.DECODE_LIMIT_EXCEEDED, f"decoding writes more than {box.file_bytes // _MIB} MiB")
        case signal.SIGKILL:
            return error(ErrorCode.DECODE_LIMIT_EXCEEDED, "the decoder was killed, most likely for its use of memory")
        case signal.SIGTERM | signal.SIGINT | signal.SIGHUP:
            return error(ErrorCode.WORKER_CRASHED, f"the decoder was ended by {name}")
        case _:
            return error(ErrorCode.AUDIO_CORRUPT, f"the file crashed the decoder ({name})")


def _read(reply: bytes) -> AudioInfo:
    """Read the child's one line; raise the error that it reports."""
    try:
        message = _REPLY.decode(reply)
    except msgspec.MsgspecError as exc:
        raise error(ErrorCode.INTERNAL_ERROR, f"the decoder's reply cannot be read: {exc}") from exc
    if isinstance(message, Success):
        return message.info
    raise from_info(message.error)
