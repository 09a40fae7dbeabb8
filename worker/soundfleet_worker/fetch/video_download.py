"""yt-dlp at work: which options it has, what is looked at before a download, and what is counted during it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from soundfleet_schemas import ErrorCode, SoundfleetError, error
from soundfleet_schemas.sources import MAX_NAME_CHARS

from .video_faults import explain, too_large
from .video_jail import Jail
from .video_order import COOKIES, MEDIA, Order, Progress, Success

_REPORT_EVERY_SEC = 0.2
_ROUNDING_SEC = 1.0
"""Hosts tell whole seconds; the file itself is measured afterwards."""
_LIVE = {"is_live": "is live", "is_upcoming": "has not begun", "post_live": "was live and is still being processed"}
_NATIVE = "[protocol~='^(https?|m3u8|m3u8_native|http_dash_segments)$']"
"""Ways of delivery that yt-dlp has in Python; the others start programs."""
_MOST_NOTES = 50
_MOST_BYTES = 1 << 53
"""What JSON's numbers hold."""


class Notes:
    """yt-dlp's logger: keeps its warnings, and is silent."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, message: str) -> None:
        pass

    def info(self, message: str) -> None:
        pass

    def warning(self, message: str) -> None:
        if len(self.warnings) < _MOST_NOTES:
            self.warnings.append(message)

    def error(self, message: str) -> None:
        pass


def download(order: Order, jail: Jail, report: Callable[[Progress], None]) -> Success:
    """Fetch as ordered. Raises what is wrong as a ``SoundfleetError``."""
    yt_dlp = _import()
    notes = Notes()
    try:
        with yt_dlp.YoutubeDL(options(order, notes, _hook(order, report))) as ydl:
            found = ydl.extract_info(order.url, download=False)
            check(found, order)
            done = ydl.process_ie_result(found, download=True)
    except Exception as exc:
        raise explain(exc, order, jail, notes.warnings) from exc
    if not (Path(order.directory) / MEDIA).is_file():
        raise error(ErrorCode.SOURCE_UNAVAILABLE, "the host brought no file")
    return _success(done, order)


def _import() -> Any:
    """Import yt-dlp, which has no types. Raises MISSING_DEPENDENCY."""
    try:
        return importlib.import_module("yt_dlp")
    except ModuleNotFoundError as exc:
        if exc.name != "yt_dlp":
            raise
        message = "yt-dlp, which reads videos' pages, is not installed"
        raise error(ErrorCode.MISSING_DEPENDENCY, message, "Install it: pip install 'soundfleet[fetch]'") from exc


def options(order: Order, notes: Notes, hook: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Return yt-dlp's options: one video, its sound as it is, natively, into one file, and nothing else."""
    most = order.limits.max_file_bytes
    fitting = f"[filesize<=?{most}]{_NATIVE}"
    cookies = Path(order.directory) / COOKIES
    return {
        "format": f"ba{fitting}/ba{_NATIVE}/w*{fitting}[acodec!=?none]/w*{_NATIVE}[acodec!=?none]",
        "outtmpl": {"default": MEDIA},
        "paths": {"home": order.directory, "temp": order.directory},
        "logger": notes,
        "progress_hooks": [hook],
        "noprogress": True,
        # One video, from whom it may be.
        "allowed_extractors": ["youtube.*"] if order.youtube else ["default"],
        "noplaylist": True,
        "extract_flat": "in_playlist",
        "lazy_playlist": True,
        "playlist_items": "1",
        # Natively: no other program but the JavaScript runtime, and nothing from elsewhere.
        "external_downloader": {"default": "native"},
        "hls_prefer_native": True,
        "ffmpeg_location": str(Path(order.directory) / "no-ffmpeg"),
        "fixup": "never",
        "postprocessors": [],
        "js_runtimes": {"deno": {"path": order.runtime}} if order.runtime else {},
        "remote_components": set(),
        # Straight, with the system's certificates, and not for ever.
        "proxy": "",
        "compat_opts": {"no-certifi"},
        "geo_bypass": False,
        "socket_timeout": order.reach.read_sec,
        "retries": 2,
        "fragment_retries": 2,
        "extractor_retries": 1,
        "file_access_retries": 0,
        "skip_unavailable_fragments": False,
        # Nothing is left but the file.
        "cachedir": False,
        "continuedl": False,
        "nopart": True,
        "overwrites": True,
        "updatetime": False,
        "cookiefile": str(cookies) if cookies.exists() else None,
    }


def _hook(order: Order, report: Callable[[Progress], None]) -> Callable[[Mapping[str, Any]], None]:
    """Return what yt-dlp calls for every block: it reports, and ends what is too large or crawls."""
    most, reach, began, told = order.limits.max_file_bytes, order.reach, 0.0, 0.0

    def hook(state: Mapping[str, Any]) -> None:
        nonlocal began, told
        now = time.monotonic()
        began = began or now
        size, total = _bytes(state.get("downloaded_bytes")) or 0, _bytes(state.get("total_bytes"))
        if max(size, total or 0) > most:
            raise too_large(most)
        if now - began > reach.rate_after_sec and size < (now - began) * reach.min_bytes_per_sec:
            message = f"the host sends less than {reach.min_bytes_per_sec} bytes a second"
            raise error(ErrorCode.SOURCE_UNAVAILABLE, message)
        if now - told >= _REPORT_EVERY_SEC or state.get("status") == "finished":
            told = now
            total = total or _bytes(state.get("total_bytes_estimate"))
            report(Progress(size_bytes=size, total_bytes=total or None))

    return hook


def _bytes(value: object) -> int | None:
    """Read a size, which may be a host's word or guessed from one; None for what is none."""
    return int(value) if isinstance(value, int | float) and 0 <= value < _MOST_BYTES else None


def check(found: Mapping[str, Any] | None, order: Order) -> None:
    """Look at what a page offers, before anything is downloaded.

    Raises INVALID_SOURCE (several videos), SOURCE_LIVE, AUDIO_TOO_LONG or FILE_TOO_LARGE.
    """
    if found is None:
        raise error(ErrorCode.UNSUPPORTED_SOURCE, "the page has no video")
    if found.get("_type", "video") != "video":
        raise error(ErrorCode.INVALID_SOURCE, "the address is that of several videos", "Name one video.")
    status = found.get("live_status") or ("is_live" if found.get("is_live") else None)
    if status in _LIVE:
        raise error(ErrorCode.SOURCE_LIVE, f"the video {_LIVE[status]}")
    duration, longest = found.get("duration"), order.limits.max_audio_sec
    if isinstance(duration, int | float) and duration > longest + _ROUNDING_SEC:
        raise _too_long(duration, longest)
    size = found.get("filesize")
    if isinstance(size, int) and size > order.limits.max_file_bytes:
        raise too_large(order.limits.max_file_bytes)


def _too_long(duration: float, longest: float) -> SoundfleetError:
    return error(ErrorCode.AUDIO_TOO_LONG, f"the video lasts {duration:.0f} s; the limit is {longest:g} s")


def _success(done: Mapping[str, Any], order: Order) -> Success:
    """Take the host's words for what it sent; they are for people."""
    suffix = _clean(done.get("ext"), 16).removeprefix("unknown_video")
    kind = "audio" if done.get("vcodec") == "none" else "video"
    host = ""
    with suppress(ValueError):
        host = urlsplit(str(done.get("webpage_url") or order.url)).hostname or ""
    title = _clean(done.get("title"), MAX_NAME_CHARS - len(suffix) - 1)
    return Success(
        host=_clean(host, MAX_NAME_CHARS),
        content_type=f"{kind}/{suffix}" if suffix else "",
        filename=f"{title}.{suffix}".rstrip("."),
    )


def _clean(word: object, at_most: int) -> str:
    """Make a host's word fit for a log, and for the name of a file."""
    return "".join(c for c in str(word or "") if c.isprintable()).replace("/", "_").replace("\\", "_")[:at_most]
