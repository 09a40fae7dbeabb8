"""A worker: its runs, its duties and its engine, from the first claim to the last settlement."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from redis.exceptions import RedisError

from soundfleet_producer.connections import aconnect_blocking
from soundfleet_producer.queue.verbs import Claim
from soundfleet_producer.settings import Settings
from soundfleet_schemas import (
    CATALOG,
    FETCH,
    FETCH_WEB,
    WEB,
    BackendSpec,
    BackendStatus,
    Kind,
    SoundfleetError,
    WorkerInfo,
)

from ..logging import Event, Log
from .capacity import room
from .claimer import BLOCK_SEC, Always, Claimer, Link, Ready
from .consumers import drop_own
from .duties.control import Control
from .duties.duty import Duty
from .duties.expirer import Expirer
from .duties.heartbeat import Heartbeat
from .duties.leases import Renewer, Watchman
from .duties.promoter import Promoter
from .duties.reaper import Reaper
from .duties.sampler import Sampler
from .duties.sweeper import Sweeper
from .lifecycle import live
from .orphans import release_orphans
from .outcome import Stop
from .run import Run
from .scratch import Scratch
from .tools import Tools

RELEASE_SEC = 20.0
"""For handing back what a drain could not finish."""
CLEAN_UP_SEC = 2.0
"""For threads of runs that are settled; what they still write afterwards is removed under them."""


def name_worker() -> str:
    """A new worker's id: host, pid and something random, because pids come again."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class Worker:
    """Holds jobs on its engine and in its downloads, so many of each at once, and brings each to its settlement."""

    def __init__(self, worker_id: str, settings: Settings, tools: Tools, scratch: Scratch, log: Log) -> None:
        self.id = worker_id
        self.runs: dict[str, Run] = {}
        self.draining = False
        self._settings = settings
        self._tools = tools
        self._scratch = scratch
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._cleaning: set[asyncio.Task[None]] = set()
        self._started_at = datetime.now(UTC)
        keys, limits, batcher, redis = tools.keys, tools.limits, tools.batcher, tools.redis
        self._has_engine = not settings.fetches_only
        self._slots = settings.slots if self._has_engine else 0
        self._link = Link(log)
        groups: set[str] = set()
        self._claimers: list[Claimer] = []
        if self._has_engine:
            self._claimers.append(self._claimer(False, tools.keeper, lambda: [*self._rooms()], self._free, groups))
        if settings.fetch_slots:
            self._claimers.append(self._claimer(True, Always(), lambda: [(FETCH, WEB)], self._free_fetches, groups))
        self._heartbeat = Heartbeat(worker_id, keys, redis, describe=self.describe, foreign=self._foreign)
        tools.keeper.on_change = tools.installer.on_change = self._heartbeat.soon
        self._control = Control(worker_id, self.runs, keys, redis)
        self._duties: Sequence[Duty] = (
            Renewer(worker_id, self.runs, keys, limits, batcher),
            Watchman(self.runs, limits),
            Promoter(keys, batcher),
            Expirer(keys, limits, batcher),
            Reaper(keys, limits, batcher, log),
            Sweeper(keys, batcher, redis, groups, scratch, log),
            Sampler(tools.meter.gauges),
            self._heartbeat,
            self._control,
        )

    def _claimer(
        self,
        fetches: bool,
        door: Ready,
        services: Callable[[], Sequence[tuple[str, str]]],
        free: Callable[[], int],
        groups: set[str],
    ) -> Claimer:
        """The claimer of the engine's slots, or of the downloads'; neither sees the other's jobs."""
        tools = self._tools
        return Claimer(
            self.id,
            tools.keys,
            tools.limits,
            tools.batcher,
            aconnect_blocking(self._settings.redis_url, BLOCK_SEC),
            door,
            self._link,
            self._log,
            services=services,
            groups=groups,
            recover=partial(self._recover, fetches),
            free=free,
            take=partial(self.take, fetches=fetches),
        )

    async def run(self, drain: asyncio.Event, hurry: asyncio.Event) -> None:
        """Work until ``drain`` is set, then finish what is running; ``hurry`` hands it back at once.

        Raises BACKEND_NOT_READY when engines do not start.
        """
        self._log.info(Event.started, slots=self._slots, fetch_slots=self._settings.fetch_slots)
        keeper = self._tools.keeper
        keeping = [asyncio.create_task(keeper.run(), name="engine keeper")] if self._has_engine else []
        fetching = asyncio.create_task(self._tools.installer.fetch_ahead(), name="models ahead")
        claiming = [asyncio.create_task(claimer.run(), name="claimer") for claimer in self._claimers]
        duties = [asyncio.create_task(duty.run(self._log), name=duty.name) for duty in self._duties]
        stop = asyncio.create_task(drain.wait(), name="stop")
        try:
            await asyncio.wait({*keeping, *claiming, stop}, return_when=asyncio.FIRST_COMPLETED)
            if any(task.done() for task in keeping):  # there is no engine to finish anything
                hurry.set()
            await self._drain(claiming, hurry)
        finally:
            stop.cancel()
            fetching.cancel()
            await self._tools.installer.close()
            for task in keeping:
                await keeper.close(task)
            await self._end(duties)
        for task in (*keeping, *claiming):  # any may have ended by an error, and that is this worker's
            task.result()

    async def _drain(self, claiming: list[asyncio.Task[None]], hurry: asyncio.Event) -> None:
        """Claim no more; finish within the grace; hand the rest back."""
        self.draining = True
        self._log.info(Event.draining, jobs=sorted(self.runs))
        for claimer in self._claimers:
            claimer.stop()
        await asyncio.wait(claiming)
        await self._tools.installer.close()  # who waits for a model hands its job back now, not after the grace
        await _quietly(self._heartbeat.tick())
        hurrying = asyncio.create_task(hurry.wait())
        finishing = asyncio.create_task(self._finish())
        await asyncio.wait({hurrying, finishing}, timeout=self._settings.grace_sec, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        for run in list(self.runs.values()):
            run.stop(Stop.drained)
        await asyncio.wait({finishing}, timeout=RELEASE_SEC)
        finishing.cancel()

    async def _finish(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _end(self, duties: list[asyncio.Task[None]]) -> None:
        """Leave nothing behind: no run, no record, no connection, no file."""
        for task in [*duties, *self._tasks]:
            task.cancel()
        await asyncio.gather(*duties, *self._tasks, return_exceptions=True)
        if self._cleaning:
            _, stuck = await asyncio.wait(self._cleaning, timeout=CLEAN_UP_SEC)
            for task in stuck:
                task.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)
        await _quietly(self._control.close())
        await _quietly(self._heartbeat.withdraw())
        await _quietly(drop_own(self._tools.redis, self._tools.keys, self.id))
        for claimer in self._claimers:
            await claimer.close()
        self._scratch.close()
        self._log.info(Event.stopped)

    async def _recover(self, fetches: bool) -> None:
        """Redis is back: hand back what it gave to one of our claimers in answers that were lost."""
        tools = self._tools

        def served(lane: str) -> bool:
            return lane.startswith(f"{FETCH_WEB}:") is fetches

        released = await release_orphans(
            tools.redis, tools.batcher, tools.keys, tools.limits, self.id, self.runs, served
        )
        if released:
            self._log.warning(Event.orphaned, jobs=released)

    def take(self, claim: Claim, at: float, fetches: bool = False) -> None:
        """Take a claimed job in hand; ``at`` is when the claim was sent, from which its lease counts."""
        token = claim.token
        log = self._log.bind(job=token.job_id, attempt=token.attempt)
        run = Run(claim, at, self._tools.limits, self._scratch, log, fetches)
        older = self.runs.get(token.job_id)
        self.runs[token.job_id] = run
        log.debug(Event.claimed, crashes=claim.crashes)
        run.task = asyncio.create_task(self._carry(run, older), name=run.name)
        self._tasks.add(run.task)
        run.task.add_done_callback(self._tasks.discard)

    async def _carry(self, run: Run, older: Run | None) -> None:
        """One run from its claim to its settlement, which frees its slot; its clean-up may take longer."""
        try:
            if older is not None and older.task is not None:
                if not older.settling:  # else it is just being forwarded from here to here
                    run.log.warning(Event.replaced)  # Redis came back without our claim, and gave the job out again
                older.stop(Stop.lost)
                await asyncio.wait({older.task})
            await live(run, self._tools)
        except Exception:  # the job comes back by its lease; a worker lives on
            run.log.exception(Event.unsettled)
        finally:
            if self.runs.get(run.token.job_id) is run:
                del self.runs[run.token.job_id]
            for claimer in self._claimers:
                claimer.slot_freed()
            cleaning = asyncio.create_task(run.clean_up(), name=f"clean-up of {run.name}")
            self._cleaning.add(cleaning)
            cleaning.add_done_callback(self._cleaning.discard)

    def services(self) -> list[tuple[Kind, str]]:
        """What this worker claims for: the engine's backends that can be used, and those that it can pull."""
        backends, installer = self._tools.keeper.backends.values(), self._tools.installer
        return [(b.kind, b.backend) for b in backends if b.status not in _UNUSABLE or installer.offers(b.backend)]

    def _rooms(self) -> dict[tuple[str, str], int]:
        """Those of which another job is wanted now, and how many."""
        places, runs = self._tools.keeper.places, self.runs.values()
        rooms = {service: room(service[1], places, runs) for service in self.services()}
        return {service: number for service, number in rooms.items() if number > 0}

    def _free(self) -> int:
        """How many jobs may be claimed in one go, all of which may be of one backend."""
        return min([self._slots - self._held(fetches=False), *self._rooms().values()])

    def _free_fetches(self) -> int:
        return self._settings.fetch_slots - self._held(fetches=True)

    def _held(self, *, fetches: bool) -> int:
        return sum(run.fetches is fetches for run in self.runs.values())

    def describe(self) -> WorkerInfo:
        """This worker as the fleet sees it."""
        keeper = self._tools.keeper
        return WorkerInfo(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=(keeper.device or self._settings.device) if self._has_engine else "none",
            version=_version(),
            started_at=self._started_at,
            seen_at=datetime.now(UTC),
            capacity=self._slots,
            fetch_capacity=self._settings.fetch_slots,
            running=tuple(sorted(self.runs)),
            backends=tuple(backend for _, backend in self.services()),
            draining=self.draining,
            engine=("ready" if keeper.ready else "starting") if self._has_engine else "none",
            statuses=self._tools.installer.view(),
        )

    def _foreign(self) -> dict[str, BackendSpec]:
        return {name: spec for name, spec in self._tools.keeper.catalog.items() if name not in CATALOG}


_UNUSABLE = frozenset({BackendStatus.NotInstalled, BackendStatus.Error})


async def _quietly(last_act: Coroutine[Any, Any, object]) -> None:
    """Do something that is good to have done on the way out; Redis may be away by then."""
    try:
        await last_act
    except (RedisError, SoundfleetError, OSError):
        return


def _version() -> str:
    try:
        return version("soundfleet")
    except PackageNotFoundError:
        return "0"
