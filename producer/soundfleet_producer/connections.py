"""How this project connects to Redis: one kind of connection for short exchanges, one for blocking reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from soundfleet_schemas import ErrorCode, error

ClientT = TypeVar("ClientT")

SOCKET_TIMEOUT_SEC = 5.0
BLOCK_MARGIN_SEC = 5.0
"""What a blocking read's socket waits beyond the block itself."""
RETRIES = 2
"""Repeats of a short exchange: every verb may be repeated, being idempotent by job id or fenced."""

_SHORT: dict[str, Any] = {"socket_timeout": SOCKET_TIMEOUT_SEC, "health_check_interval": 30}
_COMMON: dict[str, Any] = {"socket_connect_timeout": SOCKET_TIMEOUT_SEC, "socket_keepalive": True, "protocol": 2}


def connect(url: str) -> redis.Redis:
    """A pooled client for short exchanges. Raises INVALID_SETTING for a malformed address."""
    return _from_url(redis.Redis.from_url, url, retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES), **_SHORT)


def aconnect(url: str) -> redis.asyncio.Redis:
    """``connect`` for asyncio."""
    retry = AsyncRetry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES)
    return _from_url(redis.asyncio.Redis.from_url, url, retry=retry, **_SHORT)


def connect_blocking(url: str, block_sec: float) -> redis.Redis:
    """A client with a pool of its own for reads that block up to ``block_sec``; it never retries by itself."""
    return _from_url(
        redis.Redis.from_url,
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=block_sec + BLOCK_MARGIN_SEC,
    )


def aconnect_blocking(url: str, block_sec: float) -> redis.asyncio.Redis:
    """``connect_blocking`` for asyncio."""
    return _from_url(
        redis.asyncio.Redis.from_url,
        url,
        retry=AsyncRetry(NoBackoff(), 0),
        socket_timeout=block_sec + BLOCK_MARGIN_SEC,
    )


def _from_url(build: Callable[..., ClientT], url: str, **options: Any) -> ClientT:
    try:
        return build(url, **_COMMON, **options)
    except ValueError as exc:
        raise error(ErrorCode.INVALID_SETTING, f"redis_url is not an address of Redis: {exc}") from None
