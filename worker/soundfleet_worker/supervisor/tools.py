"""What every run of a worker shares."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from soundfleet_producer.settings import Settings
from soundfleet_producer.storage import Storage
from soundfleet_schemas import Keys, Limits

from ..fetch import FetchPolicy, VideoPolicy
from .batcher import Batcher
from .cache import Cache
from .installer import Installer
from .keeper import Keeper
from .meter import Meter
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
    installer: Installer
    preparers: Executor
    """Threads that fetch sources from their buckets."""
    fetchers: Executor
    """Threads that store what was fetched from web addresses."""
    deliverers: Executor
    """Threads that encode and upload; others than the preparers', so that neither waits for the other."""
    decoding: asyncio.Semaphore
    """How many decoders may run: they are processes that want a core each."""
    fetch_policy: FetchPolicy
    video_policy: VideoPolicy
    videos: asyncio.Semaphore
    """How many yt-dlps may run: each may take hundreds of megabytes, and one job may name several videos."""
    pace: Pace
    meter: Meter

    @property
    def limits(self) -> Limits:
        return self.settings.limits
