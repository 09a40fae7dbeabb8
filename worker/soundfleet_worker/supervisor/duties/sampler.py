"""Sampler: looks at the engine and its device while runs are in it."""

from __future__ import annotations

import asyncio

from ..gauges import Gauges
from .duty import Duty


class Sampler(Duty):
    """Reads the gauges; the driver is asked in a thread, because it may take its time."""

    interval_sec = 0.5

    def __init__(self, gauges: Gauges) -> None:
        super().__init__()
        self._gauges = gauges

    async def tick(self) -> None:
        """Read once, if anybody is to be told."""
        if self._gauges.watched:
            self._gauges.take(await asyncio.to_thread(self._gauges.read_device))
