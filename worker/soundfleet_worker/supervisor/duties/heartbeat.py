"""Heartbeat: publishes what this worker is, what it has and what it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from soundfleet_schemas import BackendSpec, Keys, WorkerInfo, encode

from .duty import Duty

MISSED = 4
"""Heartbeats that may be missed before the worker's record expires."""


class Heartbeat(Duty):
    """Writes the worker's record, its place among the workers, and the specs of its foreign backends."""

    interval_sec = 5.0

    def __init__(
        self,
        worker_id: str,
        keys: Keys,
        client: Any,
        *,
        describe: Callable[[], WorkerInfo],
        foreign: Callable[[], Mapping[str, BackendSpec]],
    ) -> None:
        super().__init__()
        self._worker_id = worker_id
        self._keys = keys
        self._client = client
        self._describe = describe
        self._foreign = foreign

    async def tick(self) -> None:
        """Publish once."""
        info = self._describe()
        lifetime_sec = round(MISSED * self.interval_sec)
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.set(self._keys.worker(self._worker_id), encode(info), ex=lifetime_sec)
            pipe.zadd(self._keys.workers, {self._worker_id: info.seen_at.timestamp()})
            pipe.zremrangebyscore(self._keys.workers, "-inf", info.seen_at.timestamp() - 60 * lifetime_sec)
            for name, spec in self._foreign().items():
                pipe.hset(self._keys.backends, name, encode(spec))
            await pipe.execute()

    async def withdraw(self) -> None:
        """Take the worker's record back."""
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.delete(self._keys.worker(self._worker_id))
            pipe.zrem(self._keys.workers, self._worker_id)
            await pipe.execute()
