"""What a test sees of the local stack: a namespace, an object prefix and a scratch directory of its own."""

from __future__ import annotations

import uuid
from functools import cached_property
from pathlib import Path

import redis

from soundfleet_producer.local import LocalStack
from soundfleet_producer.settings import ENV_PREFIX, Settings
from soundfleet_producer.storage import Storage
from soundfleet_schemas import Keys


class Stack:
    """One test's corner of the session's Redis and S3."""

    def __init__(self, local: LocalStack, directory: Path) -> None:
        self.local = local
        self.directory = directory
        self.namespace = f"test-{uuid.uuid4().hex[:12]}"
        self.scratch = directory / "scratch"
        self.scratch.mkdir()

    @cached_property
    def env(self) -> dict[str, str]:
        """The variables that point a process at this corner, with short leases and retries."""
        return self.local.env | {
            "SOUNDFLEET_NAMESPACE": self.namespace,
            "SOUNDFLEET_STORAGE_PREFIX": f"{self.namespace}/",
            "SOUNDFLEET_SCRATCH_DIR": str(self.scratch),
            "SOUNDFLEET_LIMITS_LEASE_SEC": "6",
            "SOUNDFLEET_LIMITS_RENEW_EVERY_SEC": "1",
            "SOUNDFLEET_LIMITS_RETRY_BASE_SEC": "0.2",
            "SOUNDFLEET_THREADS": "1",
            "SOUNDFLEET_LOG_FORMAT": "json",
        }

    @cached_property
    def settings(self) -> Settings:
        return Settings.load({name: value for name, value in self.env.items() if name.startswith(ENV_PREFIX)})

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.namespace)

    @cached_property
    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.local.redis.url)

    @cached_property
    def storage(self) -> Storage:
        return Storage.from_settings(self.settings, self.env)

    def close(self) -> None:
        """Close what the test has used."""
        if "redis" in self.__dict__:
            self.redis.close()
        if "storage" in self.__dict__:
            self.storage.close()
