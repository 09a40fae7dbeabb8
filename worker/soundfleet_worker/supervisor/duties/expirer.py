"""Expirer: fails the jobs that nobody has started in time, so that they do not fill the queue."""

from __future__ import annotations

from soundfleet_producer.queue.verbs import expire
from soundfleet_schemas import Keys, Limits

from ..batcher import Performs
from .duty import Duty

AT_MOST = 100


class Expirer(Duty):
    """Every worker looks; the script sees to it that a job expires once."""

    interval_sec = 1.0

    def __init__(self, keys: Keys, limits: Limits, redis: Performs) -> None:
        super().__init__()
        self._keys = keys
        self._limits = limits
        self._redis = redis

    async def tick(self) -> None:
        """Expire all that are due."""
        while await self._redis.perform(expire(self._keys, self._limits, AT_MOST)) == AT_MOST:
            pass
