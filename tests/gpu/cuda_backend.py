"""Foreign backends for tests of an engine on a real GPU: a generation's prompt says what its run asks of the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from soundfleet_schemas import BackendSpec, BackendStatus, GenerationRequest, Kind
from soundfleet_worker.backends.contract import BackendFactory, EngineJob, Model, Output, Report, Run

if TYPE_CHECKING:
    import torch

SLOTS = 16
"""Of a launch at first, each of an eighth of the device's memory: four of them fit."""
HOG = 0.6
"""Of the device's memory that a hog's weights take: two do not fit."""


class CudaRun(Run):
    """``word [steps]``."""

    def __init__(self, job: EngineJob) -> None:
        self.job = job
        self.word, _, steps = cast(GenerationRequest, job.request).prompt.partition(" ")
        self.total_steps = int(steps or 1)
        self.sum = 0.0

    @property
    def done(self) -> bool:
        return self.current_step >= self.total_steps


class CudaModel(Model):
    """Takes memory without having told of it, computes, or breaks the device."""

    max_runs = 8
    memory_bytes = 0

    def __init__(self, spec: BackendSpec, device: str, weights: torch.Tensor | None) -> None:
        import torch

        self.spec, self._device, self._weights = spec, device, weights
        self._total = torch.cuda.mem_get_info(device)[1]
        self.slots = SLOTS

    def memory_of(self, job: EngineJob) -> int:  # noqa: ARG002 - the contract's signature
        return 0

    def begin(self, job: EngineJob) -> Run:
        return CudaRun(job)

    def step(self, runs: Sequence[Run]) -> None:
        for run in cast(Sequence[CudaRun], runs):
            run.sum = self._act(run.word)
        for run in runs:
            run.current_step += 1

    def _act(self, word: str) -> float:
        import torch

        values = torch.arange(1000.0, device=self._device)
        if word == "large":
            torch.empty(self.slots * (self._total // 8), dtype=torch.uint8, device=self._device)
        if word == "assert":
            return float(values[torch.tensor([1000], device=self._device)].sum())
        return float(values.sum())

    def shrink(self) -> bool:
        if self.slots == 1:
            return False
        self.slots //= 2
        return True

    def finish(self, run: Run) -> Output:
        import numpy as np

        done = cast(CudaRun, run)
        audio = {"track": np.full((2, 8_000), 0.5, dtype=np.float32)}
        return Output(audio, 8_000, {"slots": self.slots, "sum": done.sum})

    def close(self) -> None:
        self._weights = None


class CudaFactory(BackendFactory):
    """Always ready."""

    def __init__(self, name: str, share: float = 0.0) -> None:
        self._share = share
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

    def load(self, device: str, report: Report) -> Model:  # noqa: ARG002 - the contract's signature
        import torch

        size = int(self._share * torch.cuda.mem_get_info(device)[1])
        weights = torch.empty(size, dtype=torch.uint8, device=device) if size else None
        return CudaModel(self.spec, device, weights)


def make() -> list[BackendFactory]:
    """Return one that takes nothing, and two whose weights do not fit together."""
    return [CudaFactory("trial"), CudaFactory("hog", HOG), CudaFactory("other_hog", HOG)]
