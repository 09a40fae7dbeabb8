"""Infer: hand the work to the engine and follow it there."""

from __future__ import annotations

from soundfleet_schemas import Stage, run_limit_sec

from ..engine.wire import Finished, Progress, Start
from ..logging import Event
from . import clock
from .pace import Foretold, Speed
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
    follower = Follower(run, work, reporter, tools)
    made = await tools.keeper.perform(start, limit_sec, follower)
    run.log.debug(Event.made, sec=round(made.infer_sec, 3))
    return made


class Follower:
    """Turns the engine's steps into news, with an estimate from the speed seen so far."""

    __slots__ = ("_deliver_sec", "_foretold", "_left", "_reporter", "_run", "_speed")

    def __init__(self, run: Run, work: Work, reporter: Reporter, tools: Tools) -> None:
        self._run = run
        self._reporter = reporter
        self._deliver_sec = tools.pace.deliver_sec(work.audio_sec * work.files)
        self._speed = Speed()
        self._foretold = Foretold()
        self._left = 0

    def __call__(self, progress: Progress) -> None:
        """Take a message of the engine."""
        run = self._run
        if progress.current_step < run.current_step:  # an engine began it again
            self._speed, self._foretold = Speed(), Foretold()
        run.stage = progress.stage
        run.current_step, run.total_steps = progress.current_step, progress.total_steps
        self._left = progress.total_steps - progress.current_step
        if progress.left_sec is not None:
            self._foretold.heard(clock.now(), progress.left_sec)
        elif progress.stage is not Stage.load and progress.total_steps:  # else it has not begun
            self._speed.heard(clock.now(), progress.current_step, progress.total_steps)
        self._reporter.tell(News(progress.stage, progress.current_step, progress.total_steps, self._eta_sec))

    def _eta_sec(self) -> float | None:
        now = clock.now()
        left_sec = self._foretold.left_sec(now)
        if left_sec is None:
            left_sec = self._speed.left_sec(now, self._left)
        return None if left_sec is None else round(left_sec + self._deliver_sec, 1)
