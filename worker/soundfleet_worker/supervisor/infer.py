"""Infer: hand the work to the engine and follow it there."""

from __future__ import annotations

from soundfleet_schemas import Stage, run_limit_sec

from ..engine.wire import Finished, Progress, Start
from ..logging import Event
from . import clock
from .pace import eta_sec
from .prepare import Work
from .reporter import News, Reporter
from .run import Run
from .tools import Tools


async def infer(run: Run, work: Work, reporter: Reporter, tools: Tools) -> Finished:
    """Return what the engine made. Raises its error, TIME_LIMIT_EXCEEDED, or what it died of."""
    start = Start(
        run=run.name,
        job_id=run.token.job_id,
        request=work.request,
        backend=work.spec.backend,
        scratch=str(run.directory),
        inputs={name: str(path) for name, path in work.inputs.items()},
    )
    limit_sec = run_limit_sec(work.audio_sec, work.request.time_limit_sec, tools.limits)
    made = await tools.keeper.perform(start, limit_sec, Follower(run, work, reporter, tools))
    run.log.debug(Event.made, sec=round(made.infer_sec, 3))
    return made


class Follower:
    """Turns the engine's steps into news, with an estimate from the speed seen so far."""

    __slots__ = ("_deliver_sec", "_first", "_reporter", "_run")

    def __init__(self, run: Run, work: Work, reporter: Reporter, tools: Tools) -> None:
        self._run = run
        self._reporter = reporter
        self._deliver_sec = tools.pace.deliver_sec(work.audio_sec * work.files)
        self._first: tuple[float, int] | None = None
        """When the first step was heard of, and which it was."""

    def __call__(self, progress: Progress) -> None:
        """Take a message of the engine."""
        run = self._run
        run.stage = progress.stage
        run.current_step, run.total_steps = progress.current_step, progress.total_steps
        if progress.stage is Stage.load:
            self._first = None
        elif self._first is None or progress.current_step < self._first[1]:  # an engine that began it again
            self._first = (clock.now(), progress.current_step)
        self._reporter.tell(News(progress.stage, progress.current_step, progress.total_steps, self._eta_sec))

    def _eta_sec(self) -> float | None:
        if self._first is None:
            return None
        since, step = self._first
        run = self._run
        remaining = run.total_steps - run.current_step
        return eta_sec(clock.now() - since, run.current_step - step, remaining, self._deliver_sec)
