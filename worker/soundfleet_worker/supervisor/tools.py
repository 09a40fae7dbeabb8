"""What every run of a worker shares."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from soundfleet_producer.settings import Settings
from soundfleet_producer.storage import Storage
from soundfleet_schemas import Keys, Limits

from ..fetch import FetchPolicy
from .batcher import Batcher
from .cache import Cache
from .keeper import Keeper
from .meter import CpuMeter
from .pace import Pace


@dataclass(frozen=True, slots=True)
class Tools:
    """The parts that a run's steps work with."""

    settings: Settings
    keys: Keys
    redis: Any
    """Async client for reads outside the verbs."""
    batcher: Batcher
    cache: Cache
    storage: Storage
    keeper: Keeper
    preparers: Executor
    """Threads that fetch."""
    deliverers: Executor
    """Threads that encode and upload; others than the preparers', so that neither waits for the other."""
    decoding: asyncio.Semaphore
    """How many decoders may run: they are processes that want a core each."""
    fetch_policy: FetchPolicy
    pace: Pace
    meter: CpuMeter

    @property
    def limits(self) -> Limits:
        return self.settings.limits
