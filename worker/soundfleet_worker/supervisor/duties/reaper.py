"""Reaper: takes jobs from workers that stopped renewing their leases."""

from __future__ import annotations

from soundfleet_producer.queue.verbs import reap
from soundfleet_schemas import ErrorCode, Keys, Limits, error

from ...logging import Event, Log
from ..batcher import Performs
from .duty import Duty

AT_MOST = 100


class Reaper(Duty):
    """Every worker reaps; the script sees to it that a job is reaped once."""

    def __init__(self, keys: Keys, limits: Limits, redis: Performs, log: Log) -> None:
        super().__init__()
        self.interval_sec = max(0.2, min(5.0, limits.lease_sec / 6))
        self._keys = keys
        self._limits = limits
        self._redis = redis
        self._log = log
        message = f"the job's worker vanished {limits.max_crashes} times, and the job may be the cause"
        self._info = error(ErrorCode.WORKER_CRASHED, message).info

    async def tick(self) -> None:
        """Reap all whose lease ran out."""
        reaped = [""] * AT_MOST
        while len(reaped) == AT_MOST:
            reaped = await self._redis.perform(reap(self._keys, self._info, self._limits, AT_MOST))
            if reaped:
                self._log.warning(Event.reaped, jobs=reaped)
