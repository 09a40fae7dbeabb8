"""A run that was handed to an engine, until the engine, or its death, has answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from soundfleet_schemas import ErrorInfo, SoundfleetError, Stage

from ..engine.wire import Cancelled, Failed, Finished, Progress, Start
from . import clock


class Died(NamedTuple):
    """The engine died with the run on it."""

    info: ErrorInfo
    detail: str
    blame: str | None
    """None: another's fault · alone: this run's · company: this run's or a companion's, which one is not known."""


Answer = Finished | Failed | Cancelled | Died


class EngineFailed(SoundfleetError):
    """A run's error as the engine told it, or as its death was attributed; ``detail`` goes to the dead letter."""

    def __init__(self, info: ErrorInfo, detail: str) -> None:
        super().__init__(info.code, info.message, info.action)
        self.info = info
        self.detail = detail


class Assignment:
    """What the keeper knows of a run on the engine."""

    __slots__ = (
        "_tell",
        "answer",
        "give_up_at",
        "infer_from",
        "left",
        "limit_sec",
        "moved_at",
        "overdue",
        "poison",
        "stage",
        "start",
        "step",
    )

    def __init__(self, start: Start, limit_sec: float, tell: Callable[[Progress], None]) -> None:
        self.start = start
        self.limit_sec = limit_sec
        self._tell = tell
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.stage: Stage | None = None
        self.step = -1
        self.infer_from: float | None = None
        """When the run had made a step, from which its time limit counts: waiting is not its fault."""
        self.moved_at = clock.now()
        self.give_up_at: float | None = None
        """When the engine, told to drop the run, must have done so."""
        self.overdue = False
        self.left = False
        """Whether its caller, who does not want it any more, has gone before the engine could let go of it."""
        self.poison: Failed | None = None
        """The engine's last word of this run, when the device context broke under it."""

    @property
    def name(self) -> str:
        return self.start.run

    def moved(self, progress: Progress) -> None:
        """Take a progress message."""
        if (progress.stage, progress.current_step) != (self.stage, self.step):
            self.moved_at = clock.now()
            self.stage, self.step = progress.stage, progress.current_step
        if progress.current_step > 0 and self.infer_from is None:
            self.infer_from = clock.now()
        if not self.left:
            self._tell(progress)

    def stood_still(self, since: float, now: float) -> None:
        """Take the time from ``since`` on, in which the engine loaded a model, off the run's clocks."""
        self.moved_at += now - max(since, self.moved_at)
        if self.infer_from is not None:
            self.infer_from += now - max(since, self.infer_from)
        if self.give_up_at is not None:
            self.give_up_at += now - since

    def end(self, answer: Answer) -> None:
        """Take the answer."""
        if not self.answer.done():
            self.answer.set_result(answer)
