"""One job in this worker's hands: its claim, its lease by our own clock, and where it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, TypeVar

from soundfleet_producer.queue.verbs import Claim, Token
from soundfleet_schemas import ErrorInfo, JobRequest, Limits, Stage

from ..logging import Log
from . import clock
from .outcome import STRENGTH, Stop
from .scratch import Scratch

T = TypeVar("T")


class Run:
    """One attempt at one job."""

    __slots__ = (
        "_calls",
        "_held_from",
        "_limits",
        "_scratch",
        "_stepping",
        "claim",
        "current_step",
        "fetches",
        "log",
        "name",
        "request",
        "settling",
        "stage",
        "started",
        "stop_reason",
        "task",
        "total_steps",
        "unready",
    )

    _serial = 0

    def __init__(
        self, claim: Claim, held_from: float, limits: Limits, scratch: Scratch, log: Log, fetches: bool = False
    ) -> None:
        Run._serial += 1
        self.claim = claim
        self.fetches = fetches
        """Whether it came from the lane of downloads, and goes on to its backend's."""
        self.name = f"{claim.token.job_id}/{claim.token.attempt}/{Run._serial}"
        """Unique in this process: a job that is claimed again while it is in hand has another run."""
        self.log = log
        self.request: JobRequest | None = None
        self.stage = Stage.fetch if fetches else Stage.prepare
        self.current_step = 0
        self.total_steps = 0
        self.started = clock.now()
        self.stop_reason: Stop | None = None
        self.unready: ErrorInfo | None = None
        """Why this worker hands the run back, when it is not for its own end."""
        self.settling = False
        self.task: asyncio.Task[None] | None = None
        self._stepping = False
        self._held_from = held_from
        self._limits = limits
        self._scratch = scratch
        self._calls: list[Future[Any]] = []

    @property
    def token(self) -> Token:
        return self.claim.token

    def renewed(self, at: float) -> None:
        """The lease runs from ``at``: when the request that extended it was sent, not when it was answered."""
        self._held_from = at

    @property
    def deadline(self) -> float:
        """When, by our own clock, the lease is not to be trusted any more."""
        return self._held_from + self._limits.lease_trust * self._limits.lease_sec

    @property
    def trusted(self) -> bool:
        return clock.now() < self.deadline

    def stop(self, reason: Stop) -> None:
        """Interrupt the run. It ends with ``reason`` unless it is being settled already."""
        if self.settling or (self.stop_reason is not None and STRENGTH[reason] <= STRENGTH[self.stop_reason]):
            return
        self.stop_reason = reason
        if self._stepping and self.task is not None:
            self.task.cancel()

    def begin(self) -> None:
        """From here on ``stop`` interrupts (a task that has not begun would be cancelled without a word)."""
        self._stepping = True
        if self.stop_reason is not None:
            raise asyncio.CancelledError

    def end(self) -> None:
        """From here on ``stop`` does nothing."""
        self._stepping = False
        self.settling = True

    def check_lease(self) -> None:
        """Give up unless the lease is still to be trusted; called before anything leaves this machine."""
        if not self.trusted:
            self.stop_reason = Stop.lost
            raise asyncio.CancelledError

    def hand_back(self, why: ErrorInfo) -> None:
        """Give up uncharged: this worker cannot do the job now, which says nothing against the job."""
        self.unready = why
        self.stop_reason = self.stop_reason or Stop.unready
        raise asyncio.CancelledError

    @property
    def directory(self) -> Path:
        """This run's scratch directory, which may not have been made yet."""
        return self._scratch.of(self.name)

    async def in_thread(self, pool: Executor, call: Callable[..., T], *args: Any) -> T:
        """Run ``call`` in a pool. When the run is stopped meanwhile, the call goes on; ``clean_up`` waits for it."""
        future = pool.submit(call, *args)
        self._calls.append(future)
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(_retrieve)
        return await asyncio.shield(waiting)

    async def clean_up(self) -> None:
        """Remove what the run left on disk, after the last thread that may write there."""
        under_way = [asyncio.wrap_future(call) for call in self._calls if not (call.cancel() or call.done())]
        await asyncio.gather(*under_way, return_exceptions=True)
        self._scratch.remove(self.name)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Take the error of a call whose run was stopped meanwhile: nobody else would, and asyncio would complain."""
    if not future.cancelled():
        future.exception()
