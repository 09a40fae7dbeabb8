"""Sweeper: takes out what has expired, and what dead workers left in the groups and on this machine's disk."""

from __future__ import annotations

import asyncio
from typing import Any

from soundfleet_producer.queue.verbs import sweep
from soundfleet_schemas import Keys

from ...logging import Event, Log
from ..batcher import Performs
from ..consumers import drop_dead, list_consumers
from ..scratch import Scratch
from .duty import Duty

AT_MOST = 500


class Sweeper(Duty):
    """Every worker sweeps, seldom. It learns thereby which lanes have a group, and puts them into ``groups``."""

    interval_sec = 60.0
    spread = 0.5

    def __init__(self, keys: Keys, redis: Performs, client: Any, groups: set[str], scratch: Scratch, log: Log) -> None:
        super().__init__()
        self._keys = keys
        self._redis = redis
        self._client = client
        self._groups = groups
        self._scratch = scratch
        self._log = log

    async def tick(self) -> None:
        """Sweep all that has expired; the scratch first, which needs no Redis."""
        if removed := await asyncio.to_thread(self._scratch.sweep):
            self._log.warning(Event.swept, directories=removed)
        while await self._redis.perform(sweep(self._keys, AT_MOST)) >= AT_MOST:
            pass
        consumers = await list_consumers(self._client, self._keys)
        self._groups.update(consumer.lane for consumer in consumers)
        await drop_dead(self._client, self._keys, consumers)
