"""The claim loop: takes as many jobs as there are free slots, and sleeps on the bells when there are none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from redis.exceptions import RedisError

from soundfleet_producer.queue.verbs import Claim, Claims, claim
from soundfleet_schemas import Keys, Lane, Limits, Priority, SoundfleetError

from ..logging import Event, Log
from . import clock
from .batcher import Batcher

BLOCK_SEC = 2.0
"""Longest sleep on the bells: a token may have gone to a worker that hangs."""
PAUSE_SEC = (0.1, 2.0)
"""Between attempts while Redis is away."""
TOKENS = 64
"""Tokens that a bell holds at most."""


class Ready(Protocol):
    """What must be ready before jobs are claimed for it."""

    @property
    def ready(self) -> bool: ...

    async def wait_ready(self) -> None: ...


class Always:
    """Ready from the start: what needs no engine."""

    ready = True

    async def wait_ready(self) -> None:
        """Return at once."""


class Link:
    """Whether Redis answers, as the claimers of a worker see it; what they say of it is said once."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._away: set[object] = set()

    def lost(self, who: object, exc: Exception) -> None:
        """A claim was not answered."""
        if not self._away:
            self._log.error(Event.redis_away, error=str(exc))
        self._away.add(who)

    def away(self, who: object) -> bool:
        """Whether the last claim was not answered."""
        return who in self._away

    def back(self, who: object) -> None:
        """Redis answers again."""
        self._away.discard(who)
        if not self._away:
            self._log.warning(Event.redis_back)


class Claimer:
    """Claims for one kind of slots of a worker: those on its engine, or those of its downloads.

    ``services`` are what it claims for, once ``door`` is ready; ``free`` says how many jobs it can take, ``take`` takes
    them. ``groups`` are the lanes that are known to have had a consumer group: one that is made anew had vanished with
    its server's data. ``recover`` is called when Redis is back, before the next claim.
    """

    def __init__(
        self,
        worker_id: str,
        keys: Keys,
        limits: Limits,
        batcher: Batcher,
        blocking: Any,
        door: Ready,
        link: Link,
        log: Log,
        *,
        services: Callable[[], Sequence[tuple[str, str]]],
        groups: set[str],
        recover: Callable[[], Awaitable[None]],
        free: Callable[[], int],
        take: Callable[[Claim, float], None],
    ) -> None:
        self._worker_id = worker_id
        self._keys = keys
        self._limits = limits
        self._batcher = batcher
        self._blocking = blocking
        self._door = door
        self._link = link
        self._log = log
        self._services = services
        self._groups = groups
        self._recover = recover
        self._free = free
        self._take = take
        self._stopping = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._turn = 0

    def slot_freed(self) -> None:
        """A job has left."""
        self._slot_freed.set()

    async def close(self) -> None:
        """Give the connection back."""
        await self._blocking.aclose()

    def stop(self) -> None:
        """Claim no more; ``run`` returns when the claim under way is answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Claim until stopped."""
        pause = PAUSE_SEC[0]
        while not self._stopping.is_set():
            try:
                await self._round()
                pause = PAUSE_SEC[0]
            except (SoundfleetError, RedisError) as exc:
                self._link.lost(self, exc)
                await self._until(asyncio.sleep(pause))
                pause = min(PAUSE_SEC[1], 2 * pause)

    async def _round(self) -> None:
        """Claim once; then wait for what can change the answer."""
        if not self._door.ready:
            await self._until(self._door.wait_ready())
            return
        free = self._free()
        if free <= 0:
            self._slot_freed.clear()
            await self._until(self._slot_freed.wait())
            return
        services = self._services()
        if not services:  # every backend has enough, or is out of order; the keeper has said why
            self._slot_freed.clear()
            with suppress(TimeoutError):
                await self._until(asyncio.wait_for(self._slot_freed.wait(), BLOCK_SEC))
            return
        claims = await self._claim(free, services)
        if len(claims.jobs) < free and not claims.more and not self._stopping.is_set():
            await self._idle(services)

    async def _claim(self, free: int, services: Sequence[tuple[str, str]]) -> Claims:
        if self._link.away(self):
            await self._recover()
            self._link.back(self)
        at = clock.now()
        lanes = self._lanes(services)
        claims = await self._batcher.perform(claim(self._keys, self._worker_id, free, lanes, self._limits))
        for job in claims.jobs:
            self._take(job, at)
        self._shout(claims)
        return claims

    def _lanes(self, services: Sequence[tuple[str, str]]) -> list[Lane]:
        """All high ones before all normal ones; services take turns at being first, so that none starves another."""
        self._turn += 1
        first = self._turn % max(1, len(services))
        turned = [*services[first:], *services[:first]]
        return [Lane(kind, backend, priority) for priority in Priority for kind, backend in turned]

    def _shout(self, claims: Claims) -> None:
        for lane in claims.created:
            level = self._log.error if lane in self._groups else self._log.debug
            level(Event.group_created, lane=lane, lost=lane in self._groups)
            self._groups.add(lane)

    async def _idle(self, services: Sequence[tuple[str, str]]) -> None:
        """Sleep until a bell rings for one of our services; again while what it rang for leaves the lanes empty."""
        bells = [self._keys.bell(f"{kind}.{backend}") for kind, backend in services]
        while True:
            rung = await self._until(self._blocking.blpop(bells, timeout=BLOCK_SEC))
            free = self._free()
            if rung is None or free <= 0 or self._stopping.is_set() or not self._door.ready:
                return
            if list(self._services()) != list(services):  # what was just handed back is not to be claimed again
                return
            claims = await self._claim(free, services)
            if not claims.jobs and not claims.more:
                # A token of a job that was claimed already. The others are as old; a new job's comes with its entry,
                # which the next claim sees.
                await self._blocking.lpop(rung[0], TOKENS)
            if claims.more or not 0 < len(claims.jobs) < free:
                return

    async def _until(self, waiting: Any) -> Any:
        """Await something, unless ``stop`` comes first: None then."""
        task = asyncio.ensure_future(waiting)
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
