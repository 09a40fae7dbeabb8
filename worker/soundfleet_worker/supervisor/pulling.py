"""A model's files pulled in a process of its own: it holds up neither the engine nor this event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable

import msgspec

from soundfleet_schemas import ErrorCode, error, from_info

from ..models.pull import Fetched
from ..models.pull_main import Going, Pulled, PullOrder, PullReport, Refused

_REPORT: msgspec.json.Decoder[PullReport] = msgspec.json.Decoder(Going | Pulled | Refused)
_PRIVATE = ("AWS_", "SOUNDFLEET_")
"""What the process does not inherit: the fleet's credentials."""
QUIET_SEC = 600.0
"""A process that is silent for so long hears from the hub, if at all, byte by byte; to hash 30 GB takes half of it."""
_WORDS_BYTES = 2000
"""Of its last words."""


async def pull_in_process(name: str, offline: bool, told: Callable[[Fetched], None]) -> None:
    """Pull a model into the hub's cache of this machine.

    Raises what ``models.pull`` raises, and BACKEND_NOT_READY when the process dies without a word. Cancelling kills it;
    what it has gathered stays. It dies with this process.
    """
    order = PullOrder(name=name, parent=os.getpid(), offline=offline)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "soundfleet_worker.models.pull_main", msgspec.json.encode(order).decode()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)},
        start_new_session=True,  # an interrupt at the terminal is the supervisor's to handle
    )
    try:
        last, words = await asyncio.gather(_follow(process.stdout, told), _words(process.stderr))
        status = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    match last:
        case Pulled():
            return
        case Refused():
            raise from_info(last.error)
        case _:
            raise error(
                ErrorCode.BACKEND_NOT_READY,
                f"the process that pulled {name} ended with status {status}: {words or 'no word'}",
                "See the worker's log.",
            )


async def _follow(stdout: asyncio.StreamReader | None, told: Callable[[Fetched], None]) -> PullReport | None:
    """Tell what the process tells; return its last report."""
    last: PullReport | None = None
    assert stdout is not None
    while line := await _line(stdout):
        last = _REPORT.decode(line)
        if isinstance(last, Going):
            told(Fetched(last.component, last.done_bytes, last.total_bytes))
    return last


async def _line(stdout: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(QUIET_SEC):
            return await stdout.readline()
    except TimeoutError:
        said = f"the pull did not move for {QUIET_SEC:g} s"
        raise error(ErrorCode.BACKEND_NOT_READY, said, "Check the network and HF_ENDPOINT.") from None


async def _words(stderr: asyncio.StreamReader | None) -> str:
    """Read what the process complains of, and keep the last line."""
    assert stderr is not None
    words = b""
    while chunk := await stderr.read(1 << 12):
        words = (words + chunk)[-_WORDS_BYTES:]
    return words.decode(errors="replace").strip().rpartition("\n")[2]
