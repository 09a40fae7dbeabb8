"""The ACE-Step backends: denoising steps of many songs in one launch, each at its own timestep.

What a launch takes together and why company changes nothing is in ``ace_step.launches``; a unit is a call of the
transformer, or a tile of the VAE.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from soundfleet_schemas import BackendSpec, BackendStatus, GenerationRequest

from .contract import BackendFactory, EngineJob, Model, ModelConfig, Output, Report, Run

if TYPE_CHECKING:
    from pathlib import Path

    from ..ace_step.launches import Sizes
    from ..ace_step.parts import Parts

MODULES = ("torch", "diffusers", "transformers", "numpy", "safetensors")
TOKENS = {"cpu": 0, "cuda": 3072}
"""Of the transformer, per launch: on a CPU one run at a time loses nothing, a GPU is filled by some thousands."""
MOST_RUNS = {"cpu": 1, "cuda": 8}
TILES = {"cpu": 1, "cuda": 1}
"""Of the VAE, per launch: one fills either device, and a second would often be an empty slot."""
TILE_FRAMES = {"cpu": 256, "cuda": 1024}
"""Latent frames that a tile of the VAE keeps at most, for the memory: 10 s, and 40 s."""
LIGHT_BYTES = 100_000_000
"""Below this a checkpoint is so quick on a CPU that runs may share it."""
RUNS_OF_A_LIGHT_MODEL = 4


class AceStepFactory(BackendFactory):
    """One checkpoint of the catalogue: ``model_version`` names its folder."""

    def __init__(self, spec: BackendSpec, source: ModelConfig) -> None:
        self.spec = spec
        self._source = source

    def status(self) -> tuple[BackendStatus, str | None]:
        """Ready when the libraries and the checkpoint's folder are here."""
        if missing := [name for name in MODULES if importlib.util.find_spec(name) is None]:
            return BackendStatus.NotInstalled, f"{', '.join(missing)} is missing: pip install 'soundfleet[worker]'"
        from ..ace_step.files import Found, find

        found = find(self.spec, self._source)
        return (BackendStatus.Ready, None) if isinstance(found, Found) else (BackendStatus.NotInstalled, found.reason)

    def load(self, device: str, report: Report) -> Model:  # noqa: ARG002 - files are here, or status() said so
        """Load the checkpoint; raises BACKEND_NOT_READY or MODEL_LOAD_FAILED."""
        from ..ace_step.loading import load, quieten

        quieten()
        parts, found = load(self.spec, self._source, device)
        model = AceStepModel(self.spec, parts, found.loras)
        model.warm()
        return model


class AceStepModel(Model):
    """A loaded checkpoint."""

    def __init__(self, spec: BackendSpec, parts: Parts, loras: Path | None = None, sizes: Sizes | None = None) -> None:
        """``loras`` is the folder of LoRAs; ``sizes`` of launches, where the device's own are not wanted."""
        from ..ace_step.launches import Launcher, Sizes

        kind = parts.device.type
        own = Sizes(TOKENS[kind], MOST_RUNS[kind], TILES[kind], TILE_FRAMES[kind])
        self.spec = spec
        self._parts = parts
        self._weight_bytes = parts.weight_bytes
        self._launcher = Launcher(parts, loras, sizes or own)
        self.max_runs = self._room()

    def _room(self) -> int:
        """Twice as many runs as a launch has slots: while some are decoded, others fill the transformer's.

        Where a launch has one slot, sharing gains nothing and stretches every run, against its time limit.
        """
        if (slots := self._launcher.sizes.most) > 1:
            return 2 * slots
        return RUNS_OF_A_LIGHT_MODEL if self._weight_bytes < LIGHT_BYTES else 1

    def warm(self) -> None:
        """Make the first launches, so that the first song's end can be foretold; a few seconds at most."""
        self._launcher.warm()

    @property
    def memory_bytes(self) -> int:  # type: ignore[override]  # it falls when the model shrinks
        """The weights, and what one launch needs."""
        from ..ace_step.memory import launch_bytes

        longest = round(self.spec.max_duration_sec * self._parts.sample_rate)
        frames, launcher = self._parts.frames_of(longest), self._launcher
        return self._weight_bytes + launch_bytes(self._parts, launcher.sizes, frames, launcher.reach)

    def memory_of(self, job: EngineJob) -> int:
        """Predict from the duration."""
        from ..ace_step.memory import run_bytes

        samples = cast(GenerationRequest, job.request).duration_sec * self._parts.sample_rate
        return run_bytes(self._parts, samples, len(job.inputs))

    def begin(self, job: EngineJob) -> Run:
        """Lay the run out and draw its noise; raises INVALID_OPTION for what this checkpoint cannot do."""
        return self._launcher.begin(job)

    def step(self, runs: Sequence[Run]) -> None:
        """Make one launch over those of the runs that can share it."""
        from ..ace_step.song import Song

        self._launcher.advance(cast(Sequence[Song], runs))

    def shrink(self) -> bool:
        """Halve the launches; other kernels may then round the last bit differently."""
        if self._launcher.sizes.smallest:
            return False
        self._launcher.sizes.halvings += 1
        return True

    def grow(self) -> bool:
        """Double the launches, up to what they were."""
        if not self._launcher.sizes.halvings:
            return False
        self._launcher.sizes.halvings -= 1
        return True

    def finish(self, run: Run) -> Output:
        """Return the track at its level; raises OUTPUT_SILENT or, for NaN, MODEL_INFERENCE_FAILED."""
        from ..ace_step.result import output_of
        from ..ace_step.song import Song

        return output_of(cast(Song, run), self._parts, self.spec)

    def close(self) -> None:
        """Let the modules go."""
        del self._launcher, self._parts
