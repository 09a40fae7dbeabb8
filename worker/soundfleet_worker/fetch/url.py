"""``fetch_url``: a file behind http(s), within the limits, from the public internet only."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from email.message import Message
from pathlib import Path

from soundfleet_schemas import ErrorCode, Limits, SoundfleetError, error
from soundfleet_schemas.errors import show
from soundfleet_schemas.sources import MAX_NAME_CHARS

from .exchange import Exchange, get
from .guard import Resolver, addresses_of, resolve_host
from .policy import Fetched, FetchPolicy
from .target import Target, follow, parse_target

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


async def fetch_url(
    url: str,
    destination: Path,
    limits: Limits,
    policy: FetchPolicy | None = None,
    *,
    resolve: Resolver = resolve_host,
) -> Fetched:
    """Write the file behind ``url``; ``destination`` exists afterwards only if this returns.

    Raises INVALID_SOURCE, SOURCE_FORBIDDEN (address, redirect, certificate, 401), SOURCE_NOT_FOUND, FILE_TOO_LARGE,
    UNSUPPORTED_FORMAT (a compressed answer), SOURCE_UNAVAILABLE, or the OSError of a full or missing disk.
    """
    policy = policy or FetchPolicy()
    timer = asyncio.timeout(policy.total_sec)
    try:
        async with timer:
            return await _travel(parse_target(url, policy), destination, limits, policy, resolve)
    except TimeoutError as exc:
        if not timer.expired():
            raise
        raise error(ErrorCode.SOURCE_UNAVAILABLE, f"fetching took over {policy.total_sec:g} s") from exc


async def _travel(target: Target, destination: Path, limits: Limits, policy: FetchPolicy, resolve: Resolver) -> Fetched:
    for _ in range(policy.max_redirects + 1):
        addresses = await addresses_of(target.host, target.port, policy.allow_networks, resolve)
        async with get(target, addresses, policy) as exchange:
            location = exchange.headers.get("location")
            if exchange.status not in _REDIRECTS or location is None:
                _check_head(exchange, target, limits)
                return await _save(exchange, target, destination, limits, policy)
        target = follow(target, location, policy)
    raise error(ErrorCode.SOURCE_NOT_FOUND, f"the address redirects more than {policy.max_redirects} times")


def _check_head(exchange: Exchange, target: Target, limits: Limits) -> None:
    if exchange.status != 200:
        raise refusal(exchange.status, target.host)
    length = exchange.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limits.max_file_bytes:
        raise _too_large(limits)
    if exchange.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise error(ErrorCode.UNSUPPORTED_FORMAT, f"{show(target.host)} sends the file compressed, though asked not to")


def refusal(status: int, host: str) -> SoundfleetError:
    """Return the error of a final status that brings no file."""
    if status in (401, 403, 407, 451):
        code = ErrorCode.SOURCE_FORBIDDEN
    elif status in (408, 425, 429) or status >= 500:
        code = ErrorCode.SOURCE_UNAVAILABLE
    else:
        code = ErrorCode.SOURCE_NOT_FOUND
    return error(code, f"{show(host)} answers with status {status}")


def _too_large(limits: Limits) -> SoundfleetError:
    return error(ErrorCode.FILE_TOO_LARGE, f"the file is larger than {limits.max_file_bytes:,} bytes")


async def _save(exchange: Exchange, target: Target, destination: Path, limits: Limits, policy: FetchPolicy) -> Fetched:
    partial = destination.with_name(f".{destination.name}.{os.urandom(4).hex()}.part")
    digest, size, began = hashlib.sha256(), 0, time.monotonic()
    try:
        with partial.open("xb") as file:
            while chunk := await exchange.read():
                size += len(chunk)
                if size > limits.max_file_bytes:
                    raise _too_large(limits)
                passed = time.monotonic() - began
                if passed > policy.rate_after_sec and size < passed * policy.min_bytes_per_sec:
                    message = f"{show(target.host)} sends less than {policy.min_bytes_per_sec} bytes a second"
                    raise error(ErrorCode.SOURCE_UNAVAILABLE, message)
                digest.update(chunk)
                file.write(chunk)
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)
    return Fetched(
        path=str(destination),
        size_bytes=size,
        sha256=digest.hexdigest(),
        content_type=exchange.headers.get("content-type", "").partition(";")[0].strip().lower(),
        final_url=target.url,
        filename=_filename(exchange, target),
    )


def _filename(exchange: Exchange, target: Target) -> str:
    message = Message()
    message["Content-Disposition"] = exchange.headers.get("content-disposition", "")
    name = (message.get_filename() or target.filename).replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in name if c.isprintable())[:MAX_NAME_CHARS]
