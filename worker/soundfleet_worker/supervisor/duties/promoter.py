"""Promoter: puts jobs whose retry is due back into their lanes."""

from __future__ import annotations

from soundfleet_producer.queue.verbs import promote
from soundfleet_schemas import Keys

from ..batcher import Performs
from .duty import Duty

AT_MOST = 100


class Promoter(Duty):
    """Every worker promotes; the script sees to it that a job is promoted once."""

    interval_sec = 0.5

    def __init__(self, keys: Keys, redis: Performs) -> None:
        super().__init__()
        self._keys = keys
        self._redis = redis

    async def tick(self) -> None:
        """Promote all that are due."""
        while await self._redis.perform(promote(self._keys, AT_MOST)) == AT_MOST:
            pass
