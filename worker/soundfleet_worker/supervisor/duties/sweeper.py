"""Sweeper: takes what has expired out of the indexes, and consumers of dead workers out of the groups."""

from __future__ import annotations

from typing import Any

from soundfleet_producer.queue.verbs import sweep
from soundfleet_schemas import Keys

from ..batcher import Performs
from ..consumers import drop_dead, list_consumers
from .duty import Duty

AT_MOST = 500


class Sweeper(Duty):
    """Every worker sweeps, seldom. It learns thereby which lanes have a group, and puts them into ``groups``."""

    interval_sec = 60.0
    spread = 0.5

    def __init__(self, keys: Keys, redis: Performs, client: Any, groups: set[str]) -> None:
        super().__init__()
        self._keys = keys
        self._redis = redis
        self._client = client
        self._groups = groups

    async def tick(self) -> None:
        """Sweep all that has expired."""
        while await self._redis.perform(sweep(self._keys, AT_MOST)) >= AT_MOST:
            pass
        consumers = await list_consumers(self._client, self._keys)
        self._groups.update(consumer.lane for consumer in consumers)
        await drop_dead(self._client, self._keys, consumers)
