"""The contract of a backend, written as promises.

What the engine promises
  * All calls come from one thread of the engine process, never two at a time.
  * ``load`` is called once per process and model; ``close`` when the model is evicted, with no runs left.
  * ``begin`` is called only while ``memory_of`` of all active runs fits the budget and ``len(runs) < max_runs``.
  * Between two ``step`` calls runs may join (``begin``) and leave (``finish`` or ``discard``).
  * Every run that was begun is ended exactly once, by ``finish`` (only when ``done``) or by ``discard``.
  * ``step`` is never given a run that is done.

What a backend promises
  * ``step`` makes one launch over the given runs and returns soon: a cancel and a time limit act between steps. When
    they do not all fit the launch, the others come first in the next: no run waits for ever.
  * ``current_step`` never falls and never exceeds ``total_steps``; ``done`` becomes true and stays so.
  * The same request gives the same samples, alone or among others, on the same kind of machine with the same number
    of threads: randomness comes from the run's own generator. Launches of another size (``shrink``, ``grow``) may
    round the last bit of a sample differently, as another device or thread count does; so may another row of a launch
    of several runs of ACE-Step, on processors whose kernels (AVX2) treat rows unequally.
  * Whatever ``step`` raises, every run is as it was before the call, or further: it may be stepped again.
  * On out-of-memory the exception is let out (``MemoryError`` or ``torch.OutOfMemoryError``): the engine empties the
    caches and evicts an idle model, or asks this one to ``shrink``, or halves the number of runs, and calls again.
    After a number of good launches it undoes that step by step, in the reverse order, with ``grow`` for ``shrink``;
    each attempt that fails doubles the number.
  * ``finish`` and ``discard`` free the run, whatever they raise.
  * A ``SoundfleetError`` ends the run (or, from ``load``, the model) with that error. Anything else is
    MODEL_INFERENCE_FAILED (or MODEL_LOAD_FAILED). When ``step`` raises over several runs, the engine steps each by
    itself to find the one to blame.
  * It does no output of its own and no network: the files of published models come by ``models``, before ``load``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundfleet_schemas import BackendSpec, BackendStatus, JobRequest, Precision, Stage

if TYPE_CHECKING:
    import numpy as np

Report = Callable[[BackendStatus, int | None], None]
"""Called by ``load`` with a status and, while downloading, a percentage."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What the operator says of the project's own models: where their files are, and how they compute."""

    model_dir: Path | None = None
    """The operator's directory of models; the hub's cache is the other place."""
    offline: bool = False
    """Never ask a model hub."""
    precision: Precision = Precision.Auto
    """``Auto`` is the fastest that the device computes natively and whose loss was measured to be inaudible."""
    ace_step_dir: Path | None = None
    """The operator's directory of ACE-Step's checkpoints, looked at after ``model_dir``."""


@dataclass(frozen=True, slots=True)
class EngineJob:
    """What a run is begun from."""

    job_id: str
    request: JobRequest
    spec: BackendSpec
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Audio by name (``source``, ``reference``): ``.npy`` of float32, (2, samples), at ``spec.sample_rate``, to be
    memory-mapped. A separation has ``source``."""
    scratch: Path = Path()
    """A directory of this run, removed after it."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a run made: float32 arrays of shape (channels, samples) by name (``track``, or stems)."""

    audio: Mapping[str, np.ndarray]
    """An array that is memory-mapped from ``<name>.npy`` in the run's scratch is not written once more."""
    sample_rate: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The effective parameters, as they acted."""
    warnings: tuple[str, ...] = ()


class Run(ABC):
    """One job on the device."""

    job: EngineJob
    total_steps: int
    """Steps take about equally long, so that what is left can be estimated; else ``left_sec`` is set."""
    current_step: int = 0
    left_sec: float | None = None
    """What the model foretells of itself, by what it has measured, as if no other model shared the device."""
    stage: Stage = Stage.infer
    """``decode`` from when what the model made is turned into audio."""

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether ``finish`` may be called."""


class Model(ABC):
    """A loaded backend: it does not run a job, it advances many."""

    spec: BackendSpec
    max_runs: int
    memory_bytes: int
    """What the loaded model takes by itself, one launch included; ``shrink`` may lower it, ``grow`` raise it again."""

    @abstractmethod
    def memory_of(self, job: EngineJob) -> int:
        """Predict the bytes that a run of this job adds."""

    @abstractmethod
    def begin(self, job: EngineJob) -> Run:
        """Put one job's state on the device."""

    @abstractmethod
    def step(self, runs: Sequence[Run]) -> None:
        """Advance the given runs by one launch; only runs that are not done are given."""

    def shrink(self) -> bool:
        """Make later launches smaller; False when they cannot be, and fewer runs are the only help.

        Called when memory ran out, and when the model is larger than the engine's budget.
        """
        return False

    def grow(self) -> bool:
        """Undo one ``shrink``; False when launches are as large as at first. Quick, and takes no memory by itself.

        Called between launches, now and then; ``shrink`` follows when the budget has no room for it.
        """
        return False

    @abstractmethod
    def finish(self, run: Run) -> Output:
        """Take the audio of a run that is done, and free it."""

    def discard(self, run: Run) -> None:
        """Free a run that was cancelled or failed."""

    def close(self) -> None:
        """Free the model."""


class BackendFactory(ABC):
    """What the registry holds: cheap to make, imports nothing heavy until ``load``."""

    spec: BackendSpec

    @abstractmethod
    def status(self) -> tuple[BackendStatus, str | None]:
        """Say, without loading, whether the backend could be loaded here: Ready, or NotInstalled and why."""

    @abstractmethod
    def load(self, device: str, report: Report) -> Model:
        """Load the model onto ``device`` (``cpu``, ``cuda:0``)."""
