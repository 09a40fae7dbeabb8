"""The mix of one separation on the device: read through windows and normalised as Demucs does.

On the CPU it is the memory-mapped file itself, never copied whole; on a GPU it is uploaded once.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from soundfleet_schemas import ErrorCode, error

from .stems import blocks

TINY = 1e-8
"""Keeps silence from being divided by zero."""


class Mix:
    """A ``.npy`` of float32, (2, samples), as a tensor; ``mean`` and ``std`` are those of its mono sum."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.audio = torch.from_numpy(open_mix(path)).to(device)
        self.mean, self.std = _statistics(self.audio)

    @property
    def samples(self) -> int:
        return int(self.audio.shape[1])

    def read(self, start: int, out: torch.Tensor) -> None:
        """Fill ``out``, (2, length) of zeros, with the normalised audio from ``start`` on; silence beyond the mix."""
        first, last = max(start, 0), min(start + out.shape[1], self.samples)
        if first < last:
            view = out[:, first - start : last - start]
            torch.sub(self.audio[:, first:last], self.mean, out=view)
            view.div_(self.std)


def open_mix(path: Path) -> NDArray[np.float32]:
    """Map a mix; raises AUDIO_EMPTY or INTERNAL_ERROR when it is not what it must be."""
    try:
        # Copy on write, which nobody does: torch warns of arrays that are read-only.
        audio: NDArray[np.float32] = np.load(path, mmap_mode="c")
    except (OSError, ValueError) as exc:
        raise error(ErrorCode.INTERNAL_ERROR, f"cannot read the decoded audio: {exc}") from None
    if audio.ndim != 2 or audio.shape[0] != 2 or audio.dtype != np.float32:
        raise error(ErrorCode.INTERNAL_ERROR, f"decoded audio is {audio.dtype} of shape {audio.shape}")
    if audio.shape[1] == 0:
        raise error(ErrorCode.AUDIO_EMPTY, "the decoded audio has no samples")
    return audio


def _statistics(audio: torch.Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of the mono sum, in two passes of blocks in float64."""
    samples = audio.shape[1]
    zero = torch.zeros((), dtype=torch.float64, device=audio.device)
    mean = sum((_mono(audio, block).sum() for block in blocks(samples)), zero) / samples
    squares = sum((_mono(audio, block).sub_(mean).square_().sum() for block in blocks(samples)), zero)
    mean_value, squares_value = torch.stack([mean, squares]).tolist()
    std = math.sqrt(squares_value / max(samples - 1, 1)) + TINY if squares_value >= 0.0 else math.nan
    if not (math.isfinite(mean_value) and math.isfinite(std)):
        raise error(ErrorCode.AUDIO_CORRUPT, "the decoded audio holds samples that are not numbers")
    return mean_value, std


def _mono(audio: torch.Tensor, block: slice) -> torch.Tensor:
    return audio[:, block].mean(dim=0, dtype=torch.float64)
