"""The audio of one run, written tile by tile into its scratch, and judged before it counts as music."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundfleet_schemas import ErrorCode, error

from ..backends.no_numbers import no_numbers
from ..backends.scratch import reserve

PEAK = 10 ** (-1.0 / 20)
"""To which every track is brought, as the model's own authors do: -1 dBFS."""
SILENT = 1e-3
"""A peak below this, -60 dBFS, is no music."""
FAR_BEYOND = 4.0
"""A raw peak above this, +12 dBFS, tells that the model went astray."""
NAME = "track"


class Track:
    """(2, samples) of float32, memory-mapped."""

    def __init__(self, scratch: Path, samples: int) -> None:
        self.audio: NDArray[np.float32] = reserve(scratch / f"{NAME}.npy", 2, samples)
        self._peak = 0.0

    def write(self, start: int, piece: NDArray[np.float32]) -> None:
        """Put a piece in its place; what is beyond the end is cut."""
        place = self.audio[:, start : start + piece.shape[1]]
        kept = piece[:, : place.shape[1]]
        place[:] = kept
        peak = float(np.abs(kept).max(initial=0.0))
        self._peak = peak if math.isnan(peak) or math.isnan(self._peak) else max(self._peak, peak)

    def finish(self, may_be_silent: bool) -> tuple[NDArray[np.float32], dict[str, Any], list[str]]:
        """Bring the track to its level; returns it, how, and warnings; MODEL_INFERENCE_FAILED when it is no audio."""
        peak = self._peak
        if not math.isfinite(peak):
            raise no_numbers("the track holds samples that are not numbers")
        if peak < SILENT:
            if not may_be_silent:
                raise error(ErrorCode.OUTPUT_SILENT, f"the track is silent: its peak is {_dbfs(peak)}")
            return self.audio, {"gain": 1.0}, [f"the track is silent: its peak is {_dbfs(peak)}"]
        gain = PEAK / peak
        self.audio *= np.float32(gain)
        warnings = []
        if peak > FAR_BEYOND:
            warnings.append(f"the model's output peaked at {_dbfs(peak)} and was turned down: it may sound distorted")
        return self.audio, {"gain": gain}, warnings


def _dbfs(peak: float) -> str:
    return f"{20 * math.log10(peak):+.1f} dBFS" if peak > 0 else "minus infinity"
