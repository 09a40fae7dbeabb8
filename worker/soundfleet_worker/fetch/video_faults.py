"""Reading yt-dlp's exceptions: what is at their bottom, and what was said on the way."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from soundfleet_schemas import ErrorCode, SoundfleetError, error

from ..backends.scratch import is_full, scratch_full
from .video_errors import Fault, judge
from .video_jail import Jail
from .video_order import COOKIES, Order

_UNKNOWN_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)
_VAGUE = frozenset(
    {ErrorCode.SOURCE_UNAVAILABLE, ErrorCode.UNSUPPORTED_SOURCE, ErrorCode.SOURCE_NOT_FOUND, ErrorCode.SOURCE_FORBIDDEN}
)
"""May follow from a connection that was refused, which yt-dlp then reports in many ways."""


def explain(exc: BaseException, order: Order, jail: Jail, notes: Sequence[str]) -> SoundfleetError:
    """Return the error that an exception out of yt-dlp comes to."""
    causes = list(_chain(exc))
    known = next((cause for cause in causes if isinstance(cause, SoundfleetError)), None)
    if known is not None:
        return known
    if any(isinstance(cause, MemoryError) for cause in causes):
        return too_much_memory(order)
    for cause in causes:
        if is_full(cause):
            return scratch_full(cause)
        if isinstance(cause, OSError) and cause.errno == errno.EFBIG:
            return too_large(order.limits.max_file_bytes)
    if any(type(cause).__name__ == "CookieLoadError" for cause in causes):
        message = "the file of video_cookies is not a cookies file in Netscape's format"
        return error(ErrorCode.INVALID_SETTING, message, f"Export it again as {COOKIES}.")
    found = judge(fault_of(causes, order, notes))
    return jail.refused if jail.refused is not None and found.code in _VAGUE else found


def too_large(max_bytes: int) -> SoundfleetError:
    return error(ErrorCode.FILE_TOO_LARGE, f"the file is larger than {max_bytes:,} bytes")


def too_much_memory(order: Order) -> SoundfleetError:
    mib = order.box.memory_bytes >> 20
    return error(
        ErrorCode.DECODE_LIMIT_EXCEEDED, f"reading the page takes more than {mib} MiB of memory", "Upload the file."
    )


def fault_of(causes: Sequence[BaseException], order: Order, notes: Sequence[str]) -> Fault:
    """Gather the facts. yt-dlp's classes are told by their names: it may not be importable where this is tested."""
    names = {base.__name__ for cause in causes for base in type(cause).__mro__}
    status = next((s for cause in causes if isinstance(s := getattr(cause, "status", None), int)), None)
    return Fault(
        host=urlsplit(order.url).hostname or "",
        youtube=order.youtube,
        sentence=_sentence(causes),
        status=status,
        network=bool(names & {"TransportError", "IncompleteRead", "TimeoutError"}),
        untrusted="CertificateVerifyError" in names or "SSLCertVerificationError" in names,
        unknown_host=any(isinstance(c, socket.gaierror) and c.errno in _UNKNOWN_NAME for c in causes),
        expected=all(getattr(cause, "expected", True) for cause in causes) and "ExtractorError" in names,
        notes=notes,
    )


def _sentence(causes: Sequence[BaseException]) -> str:
    """Return the words of the extractor, else of the first exception that has some."""
    words = [str(getattr(cause, "orig_msg", "")) for cause in causes]
    return next((word for word in words if word), "") or next((text for cause in causes if (text := str(cause))), "")


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Go through an exception and all that led to it, by Python's links and by yt-dlp's; each once."""
    seen: set[int] = set()
    waiting: list[object] = [exc]
    while waiting:
        link = waiting.pop(0)
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        info = getattr(link, "exc_info", None)
        waiting += [link.__cause__, link.__context__, getattr(link, "cause", None), getattr(link, "reason", None)]
        waiting += [info[1]] if isinstance(info, tuple) and len(info) == 3 else []
        waiting += link.args  # urllib3 wraps by argument
