"""The ``sketch`` backend: the synthesizer, one bar a unit. Pure numpy, needs no weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from soundfleet_schemas import BackendSpec, BackendStatus, GenerationRequest

from .contract import BackendFactory, EngineJob, Model, ModelConfig, Output, Report, Run

if TYPE_CHECKING:
    from ..sketch import Render

PITCHES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
CHANNELS_IN_MEMORY = 24
"""Of float32 per sample: four stems of two channels, and what mastering them takes."""


class SketchFactory(BackendFactory):
    """Ready wherever numpy is."""

    def __init__(self, spec: BackendSpec, _source: ModelConfig) -> None:
        self.spec = spec

    def status(self) -> tuple[BackendStatus, str | None]:
        """Ready, or NotInstalled without the worker extra."""
        if importlib.util.find_spec("numpy") is None:
            return BackendStatus.NotInstalled, "numpy is missing: pip install 'soundfleet[worker]'"
        return BackendStatus.Ready, None

    def load(self, device: str, report: Report) -> Model:  # noqa: ARG002 - always on the CPU, and quick
        """Return the synthesizer; it has nothing to load."""
        return SketchModel(self.spec)


class SketchRun(Run):
    """One piece being rendered."""

    def __init__(self, job: EngineJob, render: Render) -> None:
        self.job = job
        self.render = render
        self.total_steps = render.total

    @property
    def done(self) -> bool:
        return self.render.done


class SketchModel(Model):
    """Renders pieces bar by bar."""

    max_runs = 16
    memory_bytes = 0

    def __init__(self, spec: BackendSpec) -> None:
        self.spec = spec

    def memory_of(self, job: EngineJob) -> int:
        """Predict from the duration."""
        return CHANNELS_IN_MEMORY * 4 * self.spec.sample_rate * cast(GenerationRequest, job.request).duration_sec

    def begin(self, job: EngineJob) -> Run:
        """Compose the piece; a request without a seed has seed 0."""
        from ..sketch import Render, compose

        request = cast(GenerationRequest, job.request)
        piece = compose(request.prompt, request.seed or 0, request.duration_sec, self.spec.sample_rate)
        return SketchRun(job, Render(piece))

    def step(self, runs: Sequence[Run]) -> None:
        """Render the next bar of every run."""
        for run in cast(Sequence[SketchRun], runs):
            run.render.step()
            run.current_step = run.render.position

    def finish(self, run: Run) -> Output:
        """Return the track: the sum of the stems, (2, samples)."""
        from ..sketch import mixture

        render = cast(SketchRun, run).render
        piece, mood = render.piece, render.piece.mood
        parameters = {
            "prompt": piece.prompt,
            "seed": piece.seed,
            "duration_sec": piece.duration_sec,
            "bpm": mood.bpm,
            "key": f"{PITCHES[mood.key]} {mood.mode}",
            "bars": render.total,
        }
        return Output({"track": mixture(render.finish())}, piece.sample_rate, parameters)
