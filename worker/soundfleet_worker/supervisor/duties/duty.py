"""The silhouette of a duty: an interval, a ``tick``, and a stop."""

from __future__ import annotations

import asyncio
import contextlib
import random
from abc import ABC, abstractmethod

from redis.exceptions import RedisError

from soundfleet_schemas import ErrorCode, SoundfleetError

from ...logging import Event, Log

AGAIN_SEC = 1.0
"""After a tick that failed, when the interval is longer."""


class Duty(ABC):
    """Ticks until it is cancelled; a tick that fails is tried again soon. That Redis is away, the claim loop says."""

    interval_sec: float
    spread: float = 0.1
    """Share of the interval by which it varies, so that a fleet's workers do not tick together."""

    def __init__(self) -> None:
        self._soon = asyncio.Event()

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    def soon(self) -> None:
        """Tick now instead of after the interval."""
        self._soon.set()

    @abstractmethod
    async def tick(self) -> None:
        """Do it once."""

    async def run(self, log: Log) -> None:
        """Do it for ever."""
        while True:
            pause = self.interval_sec * random.uniform(1 - self.spread, 1)
            try:
                await self.tick()
            except RedisError:
                pause = min(pause, AGAIN_SEC)
            except SoundfleetError as exc:
                pause = min(pause, AGAIN_SEC)
                if exc.code is not ErrorCode.QUEUE_UNAVAILABLE:
                    log.error(Event.duty_failed, duty=self.name, error=str(exc))
            except Exception:  # a duty that ends would be missed for the rest of the worker's life
                log.exception(Event.duty_failed, duty=self.name)
            await self._pause(pause)

    async def _pause(self, sec: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._soon.wait(), sec)
        self._soon.clear()
