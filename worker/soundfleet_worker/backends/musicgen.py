"""The MusicGen backend: many pieces in the slots of one decode loop.

A launch has a fixed number of slots, filled or not, so that the kernels, and with them a piece's tokens, do not depend
on which other pieces take part. A piece gives its slot back when its tokens are complete, and becomes audio beside
the others; a few more runs than slots are taken, so that no slot waits for the next piece meanwhile.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from soundfleet_schemas import BackendSpec, BackendStatus, GenerationRequest

from .contract import BackendFactory, EngineJob, Model, ModelConfig, Output, Report, Run

if TYPE_CHECKING:
    from ..musicgen.loading import Checkpoint
    from ..musicgen.pace import Pace
    from ..musicgen.piece import Piece

SLOTS = {"cpu": 8, "cuda": 32}
"""Pieces per launch. A CPU's matrix unit takes 16 rows, with and without the prompt, for the price of one."""
SPARE = 4
"""Of so many slots one more run is taken, which becomes audio or waits for a slot."""
MODULES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


class MusicGenFactory(BackendFactory):
    """One checkpoint of the MusicGen family: ``spec.model_version`` names it."""

    def __init__(self, spec: BackendSpec, source: ModelConfig) -> None:
        self.spec = spec
        self._source = source

    def status(self) -> tuple[BackendStatus, str | None]:
        """Ready when the libraries and the checkpoint's files are here."""
        if missing := [name for name in MODULES if importlib.util.find_spec(name) is None]:
            return BackendStatus.NotInstalled, f"{', '.join(missing)} is missing: pip install 'soundfleet[worker]'"
        from ..musicgen.files import Missing, find

        found = find(self.spec, self._source)
        return (BackendStatus.NotInstalled, found.reason) if isinstance(found, Missing) else (BackendStatus.Ready, None)

    def load(self, device: str, report: Report) -> Model:  # noqa: ARG002 - files are here, or status() said so
        """Load the checkpoint; raises BACKEND_NOT_READY or MODEL_LOAD_FAILED."""
        import torch

        from ..musicgen.loading import load

        with torch.inference_mode():
            return MusicGenModel(self.spec, load(self.spec, self._source, torch.device(device)))


class MusicGenModel(Model):
    """A loaded checkpoint with its slots."""

    def __init__(
        self, spec: BackendSpec, checkpoint: Checkpoint, slots: int | None = None, pace: Pace | None = None
    ) -> None:
        from ..musicgen.build import studio_of
        from ..musicgen.memory import room_for

        self.spec = spec
        self._checkpoint = checkpoint
        self._pieces: list[Piece] = []
        self._studio = studio_of(checkpoint, pace)
        self._most = slots or room_for(self._studio.slots, SLOTS[checkpoint.weights.device.type])
        self._wanted = self._most
        self._studio.slots.allocate(self._wanted)

    @property
    def max_runs(self) -> int:  # type: ignore[override]  # it falls when the model shrinks
        """The slots, and a few more."""
        return self._wanted + max(1, self._wanted // SPARE)

    @property
    def memory_bytes(self) -> int:  # type: ignore[override]  # it falls when the model shrinks
        """The weights, the caches of all slots, and what a launch needs."""
        from ..musicgen.memory import model_bytes

        return model_bytes(self._checkpoint, self._studio, self._wanted)

    def memory_of(self, job: EngineJob) -> int:
        """Predict from the duration: the audio, and the codec's states of it."""
        from ..musicgen.memory import run_bytes

        return run_bytes(self._checkpoint.codec, cast(GenerationRequest, job.request).duration_sec)

    def begin(self, job: EngineJob) -> Run:
        """Encode the prompt; the piece takes a slot with the next step in which one is free."""
        import torch

        from ..musicgen.build import given_of
        from ..musicgen.piece import Piece

        with torch.inference_mode():
            if self._studio.slots.count < self._wanted:
                self._take_back()
            given = given_of(job, self._checkpoint)
            piece = Piece(job, given, self._checkpoint.pattern, self._checkpoint.codec)
        self._pieces.append(piece)
        return piece

    def _take_back(self) -> None:
        """Take the memory of the slots that ``grow`` allowed; where there is none, it stays at those there are."""
        try:
            self._studio.slots.grow(self._wanted)
        except (MemoryError, RuntimeError):  # torch's own error of a CPU is a RuntimeError, a GPU's one of its kind
            self._wanted = self._studio.slots.count

    def step(self, runs: Sequence[Run]) -> None:
        """Draw a span of tokens for all that are in slots, and fill or sound some of the others."""
        import torch

        with torch.inference_mode():
            self._studio.step(cast("Sequence[Piece]", runs))

    def shrink(self) -> bool:
        """Halve the slots, when no more than half are taken; other kernels may then round differently."""
        import torch

        seats = [piece.seat for piece in self._pieces if piece.seat is not None]
        half = self._wanted // 2
        if half == 0 or len(seats) > half:
            return False
        with torch.inference_mode():
            self._wanted = half
            self._studio.slots.shrink(half, seats)
        return True

    def grow(self) -> bool:
        """Allow twice the slots; their memory is taken when the next run begins."""
        if self._wanted == self._most:
            return False
        self._wanted = min(2 * self._wanted, self._most)
        return True

    def finish(self, run: Run) -> Output:
        """Return the track, (1 or 2, samples); raises OUTPUT_SILENT or, for NaN, MODEL_INFERENCE_FAILED."""
        from ..musicgen.outcome import output_of

        piece = cast("Piece", run)
        self.discard(piece)
        return output_of(piece, self.spec.sample_rate, self._checkpoint.named(self.spec.model_version))

    def discard(self, run: Run) -> None:
        """Free the run's slot."""
        import torch

        piece = cast("Piece", run)
        if piece in self._pieces:
            self._pieces.remove(piece)
        with torch.inference_mode():
            self._studio.release(piece)

    def close(self) -> None:
        """Let the checkpoint and the caches go."""
        del self._checkpoint, self._studio
