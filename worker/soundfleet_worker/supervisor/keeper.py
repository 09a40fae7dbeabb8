"""The engine's keeper: spawns it, hands it runs, watches the clock, and passes judgement on its deaths."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from soundfleet_schemas import CATALOG, Backend, BackendSpec, BackendStatus, ErrorCode, error

from ..engine.wire import EXIT_REFUSED, Cancel, Cancelled, Failed, Finished, FromEngine, Look, Progress, Ready, Start
from ..logging import Event, Log
from . import clock
from .assignment import Answer, Assignment, Died, EngineFailed
from .crash import Death, attribute, describe
from .engine_process import Command, EngineProcess
from .gate import Gate

TICK_SEC = 0.2
READY_LIMIT_SEC = 180.0
"""From spawn to the first Ready: importing a framework on a busy machine takes its time."""
LOAD_LIMIT_SEC = 3600.0
"""Of loading a model. Meanwhile the engine, which has one thread, hears nothing, and all other clocks stand still."""
STALL_LIMIT_SEC = 180.0
"""Of an engine that has runs and says nothing, or of a run that makes no step."""
DROP_GRACE_SEC = 15.0
"""For the step in which a Cancel arrives; a longer one costs the engine its life."""
OVERDUE_GRACE_SEC = 2.0
"""The same, of a run that is over its time limit."""
START_ATTEMPTS = 5
"""Engines that died before they were ready, in a row, after which the worker gives up."""
BACKOFF_SEC = (0.1, 30.0)
SOUND_AFTER_SEC = 60.0
"""An engine that lived this long had started well: the backoff begins anew."""


class Keeper:
    """Keeps one engine running. ``perform`` outlives engines: a run that did not cause a crash is begun again."""

    def __init__(self, command: Command, log: Log) -> None:
        self._command = command
        self._log = log
        self._gate = Gate()
        self._engine: EngineProcess | None = None
        self._ready = asyncio.Event()
        self._started = False
        """Whether this engine has been ready."""
        self._useful = False
        """Whether it has finished a run."""
        self._assignments: dict[str, Assignment] = {}
        self._killed: tuple[str, str] | None = None
        """Why this keeper killed the engine: the run to blame ("" for not known), and a sentence."""
        self._heard_at = clock.now()
        self._loading: tuple[str, float] | None = None
        """The backend whose model the engine is loading, and since when."""
        self._closing = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None
        """Called when the engine becomes ready, and when a backend's status changes."""
        self.device = ""
        self.budget_mb = 0
        """The engine's memory for models and runs; 0 while it is not known."""
        self.backends: Mapping[str, Backend] = {}
        self.places: Mapping[str, int] = {}
        """How many runs the model of a backend takes at once; of models that are not loaded nothing is known."""
        self.catalog: Mapping[str, BackendSpec] = CATALOG
        """Every backend that a request may name here: the project's own, and this worker's foreign ones."""

    @property
    def pid(self) -> int | None:
        """Of the engine; None while there is none."""
        return None if self._engine is None else self._engine.pid

    @property
    def ready(self) -> bool:
        """Whether the engine takes runs."""
        return self._ready.is_set()

    async def wait_ready(self) -> None:
        """Wait until the engine takes runs."""
        await self._ready.wait()

    async def perform(self, start: Start, limit_sec: float, on_progress: Callable[[Progress], None]) -> Finished:
        """Run a job on the engine.

        Raises ``EngineFailed`` with the run's error, or with what the engine died of when this run was the cause;
        TIME_LIMIT_EXCEEDED; BACKEND_NOT_READY. Cancelling the caller drops the run, and waits until the engine has
        let go of its files, or is busy loading a model, after which it lets go of them before it does anything else.
        """
        suspect = False
        while True:
            async with self._gate.enter(alone=suspect):
                assignment = Assignment(start, limit_sec, on_progress)
                answer = await self._assign(assignment)
            match answer:
                case Finished():
                    return answer
                case _ if assignment.overdue and not (isinstance(answer, Died) and answer.blame is None):
                    raise error(ErrorCode.TIME_LIMIT_EXCEEDED, f"the run took longer than {limit_sec:g} seconds")
                case Failed():
                    raise EngineFailed(answer.error, answer.detail)
                case Cancelled():
                    raise error(ErrorCode.INTERNAL_ERROR, "the engine dropped a run that nobody had cancelled")
                case Died(blame=None):
                    continue
                case Died(blame="company"):  # also alone, beside a run whose caller did not wait for its end
                    suspect = True
                case Died():
                    raise EngineFailed(answer.info, answer.detail)

    async def _assign(self, assignment: Assignment) -> Answer:
        engine = await self._usable_engine()
        self._assignments[assignment.name] = assignment
        if len(self._assignments) == 1:
            self._heard_at = clock.now()
        engine.send(assignment.start)
        try:
            return await asyncio.shield(assignment.answer)
        except asyncio.CancelledError:
            self._drop(assignment, DROP_GRACE_SEC)
            while not (assignment.answer.done() or self._loading):  # within the grace, or the engine is killed
                with contextlib.suppress(asyncio.CancelledError):  # to be told twice changes nothing
                    await asyncio.wait([assignment.answer], timeout=TICK_SEC)
            assignment.left = True
            raise

    async def _usable_engine(self) -> EngineProcess:
        while not (self.ready and self._engine is not None and self._engine.connected):
            self._ready.clear()  # dead, though not yet mourned: nothing more is begun on it
            try:
                async with asyncio.timeout(READY_LIMIT_SEC):
                    await self._ready.wait()
            except TimeoutError:
                raise error(ErrorCode.BACKEND_NOT_READY, "the worker's engine does not start") from None
        return self._engine

    def _drop(self, assignment: Assignment, grace_sec: float) -> None:
        if assignment.name in self._assignments and assignment.give_up_at is None:
            assignment.give_up_at = clock.now() + grace_sec
            if self._engine is not None:
                self._engine.send(Cancel(run=assignment.name))

    def look_again(self) -> None:
        """Have the engine notice files that have come; a new engine looks by itself."""
        if self._engine is not None:
            self._engine.send(Look())

    def _receive(self, message: FromEngine) -> None:
        self._heard_at = clock.now()
        if isinstance(message, Ready):
            self._is_ready(message)
        elif (assignment := self._assignments.get(message.run)) is None:
            return  # of a run that was given up
        elif isinstance(message, Progress):
            assignment.moved(message)
        elif isinstance(message, Failed) and message.poisoned:
            assignment.poison = message  # answered when the engine is dead
            self._kill("", "its device context is broken")
        else:
            self._useful |= isinstance(message, Finished)
            del self._assignments[message.run]
            assignment.end(message)

    def _is_ready(self, message: Ready) -> None:
        self.device, self.budget_mb = message.device, message.budget_mb
        self.places = message.places
        before, self.backends = self.backends, {backend.backend: backend for backend in message.backends}
        for name, backend in self.backends.items():
            if backend.status is BackendStatus.Error and (name not in before or before[name].status != backend.status):
                self._log.error(Event.backend_failed, backend=name, why=backend.message)
        self.catalog = {**CATALOG, **{spec.backend: spec for spec in message.specs}}
        self._note_load()
        if not self.ready and self._killed is None and not self._closing.is_set():
            self._started = True
            self._log.info(Event.engine_ready, device=message.device, engine_pid=self.pid)
            self._ready.set()
        self.on_change()

    def _note_load(self) -> None:
        loading = next((name for name, b in self.backends.items() if b.status is BackendStatus.Loading), None)
        if self._loading is not None and self._loading[0] != loading:
            for assignment in self._assignments.values():
                assignment.stood_still(self._loading[1], clock.now())
            self._loading = None
        if loading is not None and self._loading is None:
            self._loading = (loading, clock.now())

    async def run(self) -> None:
        """Keep an engine running until ``close``. Raises BACKEND_NOT_READY when engines do not start."""
        failures = 0
        watch = asyncio.create_task(self._watch(), name="engine watch")
        try:
            while not self._closing.is_set():
                death, lived_sec = await self._one_life()
                self._mourn(death)
                sound = self._useful or (self._started and lived_sec >= SOUND_AFTER_SEC)
                failures = 0 if sound else failures + 1
                hopeless = failures >= START_ATTEMPTS or death.status == EXIT_REFUSED
                if hopeless and not self._started and not self._closing.is_set():
                    last = death.stderr.rpartition("\n")[2]
                    raise error(
                        ErrorCode.BACKEND_NOT_READY, f"the engine {describe(death.status)}: {last or 'no word'}"
                    )
                with contextlib.suppress(TimeoutError):
                    backoff = min(BACKOFF_SEC[1], BACKOFF_SEC[0] * 2 ** min(failures, 20))
                    await asyncio.wait_for(self._closing.wait(), backoff)
        finally:
            watch.cancel()

    async def _one_life(self) -> tuple[Death, float]:
        """One engine from spawn to death, and how long it lived, s."""
        self._killed, self._started, self._useful = None, False, False
        engine = await EngineProcess.spawn(self._command, self._receive)
        self._engine = engine
        self._log.debug(Event.engine_started, engine_pid=engine.pid)
        if self._closing.is_set():  # ``close`` came while it was being spawned
            engine.kill()
        try:
            death = await engine.wait()
        finally:
            self._engine, self._loading = None, None
            self._ready.clear()
        return death, clock.now() - engine.spawned_at

    def _mourn(self, death: Death) -> None:
        """Tell every run of a dead engine what its death means for it."""
        assignments, self._assignments = list(self._assignments.values()), {}
        info = attribute(death)
        suspects = [a for a in assignments if a.poison is not None] or assignments
        if self._killed is not None:
            culprit, why = self._killed
            info = error(ErrorCode.WORKER_CRASHED, f"the engine was killed because {why}").info
            if culprit:
                suspects = [a for a in assignments if a.name == culprit]
        elif not self._closing.is_set():
            runs = [a.name for a in assignments]
            self._log.error(Event.engine_died, how=describe(death.status), code=info.code, runs=runs)
        for assignment in assignments:
            blame = None if assignment not in suspects else "alone" if len(suspects) == 1 else "company"
            poison = assignment.poison
            assignment.end(Died(poison.error, poison.detail, blame) if poison else Died(info, death.stderr, blame))

    def _kill(self, culprit: str, why: str) -> None:
        if self._engine is not None and self._killed is None:
            self._log.warning(Event.engine_killed, run=culprit, why=why)
            self._killed = (culprit, why)
            self._ready.clear()
            self._engine.kill()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_SEC)
            self.tick()

    def tick(self) -> None:
        """Hold the engine, and every run on it, to their limits."""
        now = clock.now()
        if self._engine is None or self._killed is not None or self._closing.is_set():
            return
        if not self.ready:
            if now - self._engine.spawned_at > READY_LIMIT_SEC:
                self._kill("", f"it was not ready within {READY_LIMIT_SEC:g} s")
            return
        if self._loading is not None:
            self._check_load(*self._loading, now)
            return
        if self._assignments and now - self._heard_at > STALL_LIMIT_SEC:
            self._kill("", f"it has said nothing for {STALL_LIMIT_SEC:g} s")
        for assignment in list(self._assignments.values()):
            self._check(assignment, now)

    def _check_load(self, backend: str, since: float, now: float) -> None:
        if now - since > LOAD_LIMIT_SEC:
            waiting = (a.name for a in self._assignments.values() if a.start.backend == backend)
            self._kill(next(waiting, ""), f"a model did not load in {LOAD_LIMIT_SEC:g} s")

    def _check(self, run: Assignment, now: float) -> None:
        since = run.infer_from
        if since is None and len(self._assignments) == 1:
            since = max(run.moved_at, self._heard_at)  # alone on the engine: it has begun, and its first step is long
        if run.give_up_at is not None:
            if now > run.give_up_at:
                self._kill(run.name, "it does not let go of a run")
        elif since is not None and now - since > run.limit_sec:
            run.overdue = True
            self._drop(run, OVERDUE_GRACE_SEC)
        elif run.infer_from is not None and now - run.moved_at > max(STALL_LIMIT_SEC, run.limit_sec / 2):
            self._kill(run.name, "a run makes no step")

    async def close(self, keeping: asyncio.Task[None]) -> None:
        """Shut the engine down and wait for its end; ``keeping`` is the task of ``run``."""
        self._closing.set()
        self._ready.clear()
        if self._engine is not None:
            self._engine.shut_down()
        await asyncio.wait([keeping])
