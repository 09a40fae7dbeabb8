"""Infer: hand the work to the engine and follow it there."""

from __future__ import annotations

from soundfleet_schemas import Stage, run_limit_sec

from ..engine.wire import Finished, Progress, Start
from ..logging import Event
from . import clock
from .pace import Steps
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
    with tools.pace.among(work.spec.backend, run):
        made = await tools.keeper.perform(start, limit_sec, follower)
        follower.close()
    run.log.debug(Event.made, sec=round(made.infer_sec, 3))
    return made


class Follower:
    """Turns the engine's steps into news, with an estimate from the speed seen so far."""

    __slots__ = (
        "_backend",
        "_decode_began",
        "_decode_steps",
        "_deliver_sec",
        "_pace",
        "_reporter",
        "_run",
        "_shared",
        "_steps",
    )

    def __init__(self, run: Run, work: Work, reporter: Reporter, tools: Tools) -> None:
        self._run = run
        self._reporter = reporter
        self._pace, self._backend = tools.pace, work.spec.backend
        self._deliver_sec = tools.pace.deliver_sec(work.audio_sec * work.files)
        self._steps = Steps()
        """Of this stage."""
        self._decode_began: float | None = None
        self._shared: list[int] = []
        """How many decoded at once, at every message of this run's decoding."""
        self._decode_steps = 0

    def __call__(self, progress: Progress) -> None:
        """Take a message of the engine."""
        run, now = self._run, clock.now()
        if progress.stage is not run.stage or progress.current_step < run.current_step:  # or an engine began it again
            self._steps.clear()
            self._decode_began = now if progress.stage is Stage.decode else None
            self._shared.clear()
        run.stage, self._decode_steps = progress.stage, progress.decode_steps
        run.current_step, run.total_steps = progress.current_step, progress.total_steps
        if progress.stage is Stage.decode:
            self._shared.append(self._pace.sharing(self._backend, Stage.decode))
        if progress.stage is not Stage.load:
            self._steps.heard(now, progress.current_step, progress.total_steps)
        self._reporter.tell(News(progress.stage, progress.current_step, progress.total_steps, self._eta_sec))

    def close(self) -> None:
        """The run is done: learn from it how long decoding takes."""
        if self._decode_began is not None and self._decode_steps:
            step_sec = (clock.now() - self._decode_began) / self._decode_steps
            self._pace.decoded(self._backend, step_sec * len(self._shared) / sum(self._shared))

    def _eta_sec(self) -> float | None:
        run = self._run
        left = run.total_steps - run.current_step
        to_decode = min(left, self._decode_steps)
        step_sec = self._steps.step_sec(clock.now(), run.current_step)
        decode_step_sec = step_sec
        if run.stage is not Stage.decode or step_sec is None:
            decode_step_sec = self._pace.decode_step_sec(self._backend, run.stage) or step_sec
        if to_decode == left:
            step_sec = decode_step_sec
        if step_sec is None or decode_step_sec is None:
            return None
        return round(step_sec * (left - to_decode) + decode_step_sec * to_decode + self._deliver_sec, 1)
