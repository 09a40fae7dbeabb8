"""Finished work that answers again: results by the fingerprint of what decides them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.exceptions import RedisError

from soundfleet_schemas import JobResult, Keys

from .batcher import Coalescer

_RESULT = msgspec.json.Decoder(JobResult)


class Cache:
    """Looks results up; lookups of the same moment are one MGET."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._lookups: Coalescer[str] = Coalescer(self._jobs_of)

    async def find(self, fingerprint: str) -> JobResult | None:
        """The result of the job that made this output; None when there is none, or Redis cannot say."""
        try:
            job_id = await self._lookups.ask(fingerprint)
            if job_id is None:
                return None
            raw = await self._client.hget(self._keys.job(job_id.decode()), "result")
        except RedisError:
            return None  # the cache saves work, and is never a reason to fail
        return None if raw is None else _RESULT.decode(raw)

    async def close(self) -> None:
        """Wait for what is under way."""
        await self._lookups.close()

    async def _jobs_of(self, fingerprints: Sequence[str]) -> Sequence[Any]:
        found: Sequence[Any] = await self._client.mget([self._keys.cache(fp) for fp in fingerprints])
        return found
