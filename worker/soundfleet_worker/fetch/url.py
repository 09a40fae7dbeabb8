"""``fetch_url``: a file behind http(s), within the limits, from the public internet only."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from soundfleet_schemas import ErrorCode, SoundfleetError, error
from soundfleet_schemas.errors import show
from soundfleet_schemas.sources import MAX_NAME_CHARS

from .exchange import Exchange, get
from .guard import Resolver, addresses_of, resolve_host
from .policy import Fetched, FetchPolicy, OnProgress
from .target import Target, follow, parse_target

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_QUOTED_NAME = re.compile(r"filename\*\s*=\s*utf-8'[^']*'([^\s;]+)", re.IGNORECASE)
_PLAIN_NAME = re.compile(r'filename\s*=\s*(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE)


async def fetch_url(
    url: str,
    destination: Path,
    max_bytes: int,
    policy: FetchPolicy,
    *,
    on_progress: OnProgress = lambda _size, _total: None,
    resolve: Resolver = resolve_host,
) -> Fetched:
    """Write the file behind ``url``; ``destination`` exists afterwards only if this returns.

    Raises INVALID_SOURCE, SOURCE_FORBIDDEN (address, port, redirect, certificate, 401), SOURCE_NOT_FOUND,
    FILE_TOO_LARGE, UNSUPPORTED_FORMAT (a compressed answer), SOURCE_UNAVAILABLE, or the OSError of a full disk.
    """
    timer = asyncio.timeout(policy.total_sec)
    try:
        async with timer:
            return await _travel(parse_target(url), _Saver(destination, max_bytes, policy, on_progress), resolve)
    except TimeoutError as exc:
        if not timer.expired():
            raise
        raise error(ErrorCode.SOURCE_UNAVAILABLE, f"fetching took over {policy.total_sec:g} s") from exc


class _Saver(NamedTuple):
    """Where a file goes, and within which bounds."""

    destination: Path
    max_bytes: int
    policy: FetchPolicy
    on_progress: OnProgress


async def _travel(target: Target, saver: _Saver, resolve: Resolver) -> Fetched:
    policy = saver.policy
    for _ in range(policy.max_redirects + 1):
        addresses = await addresses_of(target.host, target.port, policy, resolve)
        async with get(target, addresses, policy) as exchange:
            location = exchange.headers.get("location")
            if exchange.status not in _REDIRECTS or location is None:
                _check_head(exchange, target, saver.max_bytes)
                return await _save(exchange, target, saver)
        target = follow(target, location)
    raise error(ErrorCode.SOURCE_NOT_FOUND, f"the address redirects more than {policy.max_redirects} times")


def _check_head(exchange: Exchange, target: Target, max_bytes: int) -> None:
    if exchange.status != 200:
        raise _refusal(exchange.status, target.host)
    if int(exchange.headers.get("content-length", "0")) > max_bytes:  # at most 20 digits, or h11 would have refused it
        raise _too_large(max_bytes)
    if exchange.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise error(ErrorCode.UNSUPPORTED_FORMAT, f"{show(target.host)} sends the file compressed, though asked not to")


def _refusal(status: int, host: str) -> SoundfleetError:
    """Return the error of a final status that brings no file."""
    if status in (401, 403, 407, 451):
        code = ErrorCode.SOURCE_FORBIDDEN
    elif status in (408, 425, 429) or status >= 500:
        code = ErrorCode.SOURCE_UNAVAILABLE
    else:
        code = ErrorCode.SOURCE_NOT_FOUND
    return error(code, f"{show(host)} answers with status {status}")


def _too_large(max_bytes: int) -> SoundfleetError:
    return error(ErrorCode.FILE_TOO_LARGE, f"the file is larger than {max_bytes:,} bytes")


async def _save(exchange: Exchange, target: Target, saver: _Saver) -> Fetched:
    destination, max_bytes, policy, on_progress = saver
    total = int(exchange.headers.get("content-length", "0")) or None
    partial = destination.with_name(f".{destination.name}.{os.urandom(4).hex()}.part")
    digest, size, began = hashlib.sha256(), 0, time.monotonic()
    try:
        with partial.open("xb") as file:
            while chunk := await exchange.read():
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                passed = time.monotonic() - began
                if passed > policy.rate_after_sec and size < passed * policy.min_bytes_per_sec:
                    message = f"{show(target.host)} sends less than {policy.min_bytes_per_sec} bytes a second"
                    raise error(ErrorCode.SOURCE_UNAVAILABLE, message)
                digest.update(chunk)
                file.write(chunk)
                on_progress(size, total)
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)
    return Fetched(
        size_bytes=size,
        sha256=digest.hexdigest(),
        host=target.host,
        content_type=_clean(exchange.headers.get("content-type", "").partition(";")[0].strip().lower()),
        filename=_filename(exchange.headers.get("content-disposition", ""), target),
    )


def _filename(disposition: str, target: Target) -> str:
    """Return the name that the host gives the file, else its address does."""
    # Not by email.message: a hostile header makes that raise a dozen kinds of exception.
    if match := _QUOTED_NAME.search(disposition):
        name = unquote(match[1])
    elif match := _PLAIN_NAME.search(disposition):
        name = match[1] or match[2] or ""
    else:
        name = target.filename
    return _clean(name.replace("\\", "/").rpartition("/")[2])


def _clean(text: str) -> str:
    """Make a host's word fit for a log."""
    return "".join(c for c in text if c.isprintable())[:MAX_NAME_CHARS]
