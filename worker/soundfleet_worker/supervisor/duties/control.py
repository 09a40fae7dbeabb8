"""Control: hears at once that a job of this worker is to be cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from soundfleet_schemas import Keys

from ..outcome import Stop
from ..run import Run
from .duty import Duty

LISTEN_SEC = 10.0
"""How long one tick listens before it asks whether the connection still lives."""


class Control(Duty):
    """Listens on the worker's own channel. What is missed while Redis is away, the replies to renewals say again."""

    interval_sec = 0.0

    def __init__(self, worker_id: str, runs: Mapping[str, Run], keys: Keys, client: Any) -> None:
        super().__init__()
        self._channel = keys.control(worker_id)
        self._runs = runs
        self._client = client
        self._pubsub: Any = None

    async def tick(self) -> None:
        """Listen for a while; subscribe first when not subscribed."""
        if self._pubsub is None:
            pubsub = self._client.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(self._channel)
            except BaseException:
                await pubsub.aclose()
                raise
            self._pubsub = pubsub
        try:
            message = await self._pubsub.get_message(timeout=LISTEN_SEC)
            if message is None:
                await self._pubsub.ping()
        except BaseException:
            await self.close()
            raise
        if message is not None and message["type"] == "message":
            self.hear(message["data"])

    def hear(self, data: bytes) -> None:
        """Take the id of a job that is to be cancelled."""
        run = self._runs.get(data.decode(errors="replace"))
        if run is not None:
            run.stop(Stop.cancelled)

    async def close(self) -> None:
        """Give the connection back."""
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            await pubsub.aclose()
