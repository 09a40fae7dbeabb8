"""A foreign backend for the tests of the engine's process: what a run does stands in its prompt."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from soundfleet_schemas import BackendSpec, BackendStatus, GenerationRequest, Kind
from soundfleet_worker.backends.contract import BackendFactory, EngineJob, Model, Output, Report, Run


class TrialRun(Run):
    """``word [steps]``."""

    def __init__(self, job: EngineJob) -> None:
        assert isinstance(job.request, GenerationRequest)
        self.job = job
        self.word, _, steps = job.request.prompt.partition(" ")
        self.total_steps = int(steps or 1)

    @property
    def done(self) -> bool:
        return self.current_step >= self.total_steps


class TrialModel(Model):
    """Does what the runs' words say."""

    max_runs = 64
    memory_bytes = 0

    def __init__(self, spec: BackendSpec) -> None:
        self.spec = spec

    def memory_of(self, job: EngineJob) -> int:  # noqa: ARG002
        return 0

    def begin(self, job: EngineJob) -> Run:
        return TrialRun(job)

    def step(self, runs: Sequence[Run]) -> None:
        words = [run.word for run in runs if isinstance(run, TrialRun)]
        for word in words:
            self._act(word)
        for run in runs:
            run.current_step += 1

    def _act(self, word: str) -> None:
        match word:
            case "slow":
                time.sleep(0.01)
            case "hang":
                time.sleep(3600)
            case "fail":
                raise ValueError("this run always fails")
            case "memory":
                raise MemoryError("this run never fits")
            case "poison":
                raise RuntimeError("CUDA error: device-side assert triggered")
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "print":
                print("a library that talks", flush=True)  # noqa: T201
                os.write(1, b"and one in C\n")

    def finish(self, run: Run) -> Output:
        import numpy as np

        if isinstance(run, TrialRun) and run.word == "audio":
            return Output({"track": np.full((2, 100), 0.5, dtype=np.float32)}, 8_000)
        return Output({}, 8_000)


class TrialFactory(BackendFactory):
    """Always ready."""

    def __init__(self, name: str = "trial") -> None:
        self.spec = BackendSpec(
            backend=name,
            kind=Kind.generate,
            type="trial",
            name="Trial",
            model_version="trial-1",
            sample_rate=8_000,
            licence="MIT",
            min_duration_sec=1,
            max_duration_sec=600,
        )

    def status(self) -> tuple[BackendStatus, str | None]:
        return BackendStatus.Ready, None

    def load(self, device: str, report: Report) -> Model:  # noqa: ARG002
        return TrialModel(self.spec)


def make() -> BackendFactory:
    """Return one backend."""
    return TrialFactory()


def make_two() -> list[BackendFactory]:
    """Return several backends."""
    return [TrialFactory("trial"), TrialFactory("trial_two")]


def make_taken() -> BackendFactory:
    """Return one whose name is the project's own."""
    return TrialFactory("sketch")


def make_nothing() -> object:
    """Return what is no backend."""
    return object()


def make_trouble() -> BackendFactory:
    """Fail."""
    raise RuntimeError("no driver")


not_callable = 3
