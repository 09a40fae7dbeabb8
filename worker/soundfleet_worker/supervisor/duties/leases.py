"""Leases: the renewer extends them, the watchman gives up what could not be extended."""

from __future__ import annotations

from collections.abc import Mapping

from soundfleet_producer.queue.verbs import Reply, renew
from soundfleet_schemas import Keys, Limits

from .. import clock
from ..batcher import Performs
from ..outcome import Stop
from ..reporter import obey
from ..run import Run
from .duty import Duty


class Renewer(Duty):
    """Renews the leases of all runs in one script."""

    def __init__(self, worker_id: str, runs: Mapping[str, Run], keys: Keys, limits: Limits, redis: Performs) -> None:
        super().__init__()
        self.interval_sec = limits.renew_every_sec
        self._worker_id = worker_id
        self._runs = runs
        self._keys = keys
        self._limits = limits
        self._redis = redis

    async def tick(self) -> None:
        """Renew once, and stop the runs that are cancelled or another worker's."""
        runs = list(self._runs.values())
        if not runs:
            return
        at = clock.now()
        tokens = [run.token for run in runs]
        replies = await self._redis.perform(renew(self._keys, self._worker_id, tokens, self._limits))
        for run, reply in zip(runs, replies, strict=True):
            if reply is not Reply.superseded:
                run.renewed(at)
            obey(run, reply)


class Watchman(Duty):
    """Kills the runs whose lease may be over, by this machine's own clock: no network, no work."""

    def __init__(self, runs: Mapping[str, Run], limits: Limits) -> None:
        super().__init__()
        self.interval_sec = min(0.5, limits.renew_every_sec / 4)
        self._runs = runs

    async def tick(self) -> None:
        """Look once."""
        for run in list(self._runs.values()):
            if not run.trusted:
                run.stop(Stop.lost)
