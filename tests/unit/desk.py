"""An engine without a process, a device or real time, for the tests of its loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from soundfleet_schemas import BackendSpec, BackendStatus, GenerationRequest, Kind
from soundfleet_worker.backends.contract import BackendFactory, EngineJob, Model, Output, Report, Run
from soundfleet_worker.engine.devices import MEGABYTE
from soundfleet_worker.engine.loop import Engine
from soundfleet_worker.engine.wire import (
    Cancelled,
    Failed,
    Finished,
    FromEngine,
    Start,
)


class CountRun(Run):
    """Takes as many steps as its prompt says."""

    def __init__(self, job: EngineJob) -> None:
        self.job = job
        assert isinstance(job.request, GenerationRequest)
        self.word, _, steps = job.request.prompt.partition(" ")
        self.total_steps = int(steps or 1)

    @property
    def done(self) -> bool:
        return self.current_step >= self.total_steps


class CountModel(Model):
    """Remembers what it was asked; ``before_step`` and ``before_begin`` may raise."""

    def __init__(self, factory: CountFactory) -> None:
        self.spec, self.factory = factory.spec, factory
        self.max_runs, self.slots = factory.max_runs, factory.slots

    @property
    def memory_bytes(self) -> int:  # type: ignore[override]
        return (self.spec.memory_mb + self.slots * self.factory.slot_mb) * MEGABYTE

    def memory_of(self, job: EngineJob) -> int:  # noqa: ARG002
        return self.factory.run_mb * MEGABYTE

    def begin(self, job: EngineJob) -> Run:
        self.factory.before_begin(job)
        self.factory.log.append(f"begin {job.job_id}")
        return CountRun(job)

    def step(self, runs: Sequence[Run]) -> None:
        assert all(not run.done for run in runs)
        names = [run.job.job_id for run in runs]
        self.factory.clock.now += self.factory.step_sec
        self.factory.before_step(names, self.slots)
        self.factory.log.append(f"step {' '.join(names)}")
        for run in runs:
            run.current_step += 1

    def shrink(self) -> bool:
        if self.slots == 1:
            return False
        self.slots //= 2
        return True

    def grow(self) -> bool:
        if self.slots == self.factory.slots:
            return False
        self.slots *= 2
        return True

    def finish(self, run: Run) -> Output:
        self.factory.log.append(f"finish {run.job.job_id}")
        return Output(self.factory.audio(), 8_000, {"steps": run.total_steps})

    def discard(self, run: Run) -> None:
        self.factory.log.append(f"discard {run.job.job_id}")

    def close(self) -> None:
        self.factory.log.append(f"close {self.spec.backend}")
        self.factory.on_close()


class CountFactory(BackendFactory):
    """A backend that a test shapes by setting its fields."""

    def __init__(self, clock: Clock, name: str = "count", memory_mb: int = 10) -> None:
        self.spec = BackendSpec(
            backend=name,
            kind=Kind.generate,
            type="test",
            name=name,
            model_version="1",
            sample_rate=8_000,
            licence="",
            min_duration_sec=1,
            max_duration_sec=9,
            memory_mb=memory_mb,
        )
        self.clock = clock
        self.log: list[str] = []
        self.max_runs, self.run_mb, self.slots, self.slot_mb, self.step_sec = 4, 1, 1, 0, 0.001
        self.installed: tuple[BackendStatus, str | None] = (BackendStatus.Ready, None)
        self.before_load: Callable[[], None] = lambda: None
        self.before_begin: Callable[[EngineJob], None] = lambda _job: None
        self.before_step: Callable[[list[str], int], None] = lambda _names, _slots: None
        self.on_close: Callable[[], None] = lambda: None
        self.audio: Callable[[], dict[str, Any]] = dict

    def status(self) -> tuple[BackendStatus, str | None]:
        return self.installed

    def load(self, device: str, report: Report) -> Model:  # noqa: ARG002
        self.before_load()
        self.log.append("load")
        return CountModel(self)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """An engine with its factories and everything that it has said."""

    def __init__(self, scratch: Path, budget_mb: int = 1000, names: Sequence[str] = ("count",)) -> None:
        self.clock, self.said, self.scratch = Clock(), list[FromEngine](), scratch
        self.factories = {name: CountFactory(self.clock, name) for name in names}
        self.budget_mb = budget_mb

    def open(self) -> Engine:
        self.engine = Engine(
            self.factories,
            device="cpu",
            budget_bytes=self.budget_mb * MEGABYTE,
            send=self.said.append,
            clock=self.clock,
        )
        return self.engine

    @property
    def count(self) -> CountFactory:
        return self.factories["count"]

    def start(self, name: str, prompt: str = "x", backend: str = "count") -> None:
        request = GenerationRequest(prompt=prompt, duration_sec=5, backend=backend)
        self.engine.handle(Start(run=name, job_id=name, request=request, backend=backend, scratch=str(self.scratch)))

    def finish_all(self, ticks: int = 200) -> None:
        while self.engine.tick():
            ticks -= 1
            assert ticks, "the engine never comes to rest"

    def of(self, kind: type[FromEngine], run: str | None = None) -> list[Any]:
        return [m for m in self.said if isinstance(m, kind) and (run is None or getattr(m, "run", None) == run)]

    def ends(self) -> dict[str, str]:
        """How each run ended: Finished, Cancelled, or the error's code."""
        found: dict[str, str] = {}
        for message in self.said:
            if isinstance(message, Finished | Cancelled | Failed):
                assert message.run not in found, f"{message.run} ended twice"
                found[message.run] = message.error.code if isinstance(message, Failed) else type(message).__name__
        return found
