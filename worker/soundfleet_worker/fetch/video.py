"""``fetch_video``: the sound of a video behind an address that yt-dlp reads, as it lies on the host."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from soundfleet_schemas import ErrorCode, Limits, error
from soundfleet_schemas.errors import show
from soundfleet_schemas.sources import YOUTUBE_HOSTS

from ..audio.decode_main import Box
from .policy import Fetched, FetchPolicy, OnProgress
from .target import Target, parse_target
from .video_order import COOKIES, MEDIA, Order, Reach, Success
from .video_process import converse

_MIB = 1 << 20
_MEMORY_BYTES = 512 * _MIB
"""Of data, for yt-dlp; typical is 80 MiB."""
_CPU_SEC = 120
_OPEN_FILES = 256
_OVERSHOOT_BYTES = 8 * _MIB
"""yt-dlp writes blocks of up to 4 MiB and tells their size afterwards."""
_SMUGGLED = "__youtubedl_smuggle"
"""In an address it hands settings to yt-dlp's extractors."""
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


class VideoPolicy(NamedTuple):
    """The operator's bounds on videos."""

    hosts: frozenset[str] = frozenset()
    """Besides YouTube's: a host, or ``*.`` before the end that hosts have in common."""
    cookies: Path | None = None
    """A Netscape cookies file, copied before each use."""
    fetch: FetchPolicy = FetchPolicy()
    pins: Mapping[str, str] = MappingProxyType({})
    """Names with a fixed ``ADDRESS:PORT``, where the tests' servers stand for a host; ``*`` is every name."""


def read_hosts(text: str) -> frozenset[str]:
    """Read ``HOST,*.HOST,...``. Raises INVALID_SETTING."""
    hosts = frozenset(host for part in text.split(",") if (host := part.strip().lower()))
    for host in sorted(hosts):
        if not _HOST.fullmatch(host):
            raise error(
                ErrorCode.INVALID_SETTING,
                f"video_hosts: {show(host)} is not a host",
                "Give hosts like vimeo.com,*.bandcamp.com, without https:// and paths.",
            )
    return hosts


def takes(url: str, policy: VideoPolicy) -> bool:
    """Say whether yt-dlp serves this address: YouTube's hosts and those that the operator named."""
    try:
        host = parse_target(url).host
    except ValueError:  # InvalidRequest
        return False
    return host in YOUTUBE_HOSTS or _is_listed(host, policy.hosts)


def _is_listed(host: str, hosts: frozenset[str]) -> bool:
    labels = host.split(".")
    return host in hosts or any("*." + ".".join(labels[i:]) in hosts for i in range(1, len(labels)))


async def fetch_video(
    url: str,
    destination: Path,
    limits: Limits,
    policy: VideoPolicy,
    on_progress: OnProgress = lambda _size, _total: None,
) -> Fetched:
    """Write the best sound behind ``url`` as its host has it; ``destination`` exists afterwards only if this returns.

    Where a host has no sound without pictures it is the smallest file that has sound. Cancelling kills yt-dlp and
    what it started. Raises INVALID_SOURCE (also for playlists), UNSUPPORTED_SOURCE, every other SOURCE_* code but
    those of jobs, AUDIO_TOO_LONG, FILE_TOO_LARGE, DECODE_LIMIT_EXCEEDED, MISSING_DEPENDENCY, INVALID_SETTING,
    SCRATCH_FULL, WORKER_CRASHED or INTERNAL_ERROR.
    """
    target = parse_target(url)
    if _SMUGGLED in url:
        raise error(ErrorCode.INVALID_SOURCE, "the address holds settings of yt-dlp", "Give the address of a page.")
    if not takes(url, policy):
        raise error(ErrorCode.UNSUPPORTED_SOURCE, f"{show(target.host)} is not a host whose videos are read here")
    directory = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent.absolute()))
    try:
        _copy_cookies(policy.cookies, directory)
        order = _order(url, target, directory, limits, policy)
        success = await converse(order, policy.fetch.total_sec, on_progress)
        return await asyncio.to_thread(_accept, directory / MEDIA, destination, success, limits)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _order(url: str, target: Target, directory: Path, limits: Limits, policy: VideoPolicy) -> Order:
    return Order(
        url=url,
        youtube=target.host in YOUTUBE_HOSTS,
        directory=str(directory),
        runtime=_runtime(),
        reach=Reach.of(policy.fetch, dict(policy.pins)),
        limits=limits,
        box=Box(
            memory_bytes=_MEMORY_BYTES,
            cpu_sec=_CPU_SEC,
            wall_sec=policy.fetch.total_sec,
            file_bytes=limits.max_file_bytes + _OVERSHOOT_BYTES,
            open_files=_OPEN_FILES,
        ),
        parent=os.getpid(),
    )


def _runtime() -> str | None:
    """Find deno: beside this Python, where its wheel puts it, else on the path."""
    return shutil.which("deno", path=sysconfig.get_path("scripts")) or shutil.which("deno")


def _copy_cookies(cookies: Path | None, directory: Path) -> None:
    """Put the operator's cookies where yt-dlp may write, which it does at its end. Raises INVALID_SETTING."""
    if cookies is None:
        return
    try:
        shutil.copyfile(cookies, directory / COOKIES)
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise error(ErrorCode.INVALID_SETTING, f"the file of video_cookies cannot be copied: {reason}") from exc


def _accept(media: Path, destination: Path, success: Success, limits: Limits) -> Fetched:
    """Measure what came, and put it where it is wanted."""
    size = media.stat().st_size
    if size > limits.max_file_bytes:
        raise error(ErrorCode.FILE_TOO_LARGE, f"the file is larger than {limits.max_file_bytes:,} bytes")
    with media.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    media.replace(destination)
    return Fetched(size, sha256, success.host, success.content_type, success.filename)
