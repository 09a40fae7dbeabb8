"""A backend that makes nothing at once: what is left is the cost of the queue and of the worker."""

from __future__ import annotations

from collections.abc import Sequence

from probe import body

from soundfleet_schemas import CATALOG, BackendStatus, GenerationRequest
from soundfleet_worker.backends.contract import BackendFactory, EngineJob, Model, Output, Report, Run

SPEC = CATALOG["musicgen"]
"""A backend of the catalogue that this release's workers do not bring: a name of our own would be looked up in Redis at
every submit, which the catalogue's are not."""


class NoopRun(Run):
    """Done when it begins."""

    def __init__(self, job: EngineJob) -> None:
        self.job = job
        self.total_steps = 1
        self.current_step = 0

    @property
    def done(self) -> bool:
        return self.current_step == 1


class NoopModel(Model):
    """One step, no audio."""

    spec = SPEC
    max_runs = 256
    memory_bytes = 0

    def memory_of(self, job: EngineJob) -> int:  # noqa: ARG002
        return 0

    def begin(self, job: EngineJob) -> NoopRun:
        if isinstance(job.request, GenerationRequest):
            body(job.request.prompt)
        return NoopRun(job)

    def step(self, runs: Sequence[Run]) -> None:
        for run in runs:
            run.current_step = 1

    def finish(self, run: Run) -> Output:  # noqa: ARG002
        return Output(audio={}, sample_rate=SPEC.sample_rate)


class NoopFactory(BackendFactory):
    """Always ready."""

    spec = SPEC

    def status(self) -> tuple[BackendStatus, str | None]:
        return BackendStatus.Ready, None

    def load(self, device: str, report: Report) -> NoopModel:  # noqa: ARG002
        return NoopModel()
