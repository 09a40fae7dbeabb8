"""The mix of one separation: memory-mapped, never copied whole, read through windows and normalised as Demucs does."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soundfleet_schemas import ErrorCode, error

from .stems import Audio, blocks

TINY = 1e-8
"""Keeps silence from being divided by zero."""


class Mix:
    """A ``.npy`` of float32, (2, samples); ``mean`` and ``std`` are those of its mono sum."""

    def __init__(self, path: Path) -> None:
        self.audio: Audio = open_mix(path)
        self.mean, self.std = _statistics(self.audio)

    @property
    def samples(self) -> int:
        return int(self.audio.shape[1])

    def read(self, start: int, out: Audio) -> None:
        """Fill ``out``, (2, length) of zeros, with the normalised audio from ``start`` on; silence beyond the mix."""
        first, last = max(start, 0), min(start + out.shape[1], self.samples)
        if first >= last:
            return
        view = out[:, first - start : last - start]
        np.subtract(self.audio[:, first:last], np.float32(self.mean), out=view)
        view /= np.float32(self.std)


def open_mix(path: Path) -> Audio:
    """Map a mix; raises AUDIO_EMPTY or INTERNAL_ERROR when it is not what it must be."""
    try:
        audio: Audio = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as exc:
        raise error(ErrorCode.INTERNAL_ERROR, f"cannot read the decoded audio: {exc}") from None
    if audio.ndim != 2 or audio.shape[0] != 2 or audio.dtype != np.float32:
        raise error(ErrorCode.INTERNAL_ERROR, f"decoded audio is {audio.dtype} of shape {audio.shape}")
    if audio.shape[1] == 0:
        raise error(ErrorCode.AUDIO_EMPTY, "the decoded audio has no samples")
    return audio


def _statistics(audio: Audio) -> tuple[float, float]:
    """Return mean and standard deviation of the mono sum, in two passes of blocks in float64."""
    samples = audio.shape[1]
    mean = sum(float(_mono(audio, block).sum()) for block in blocks(samples)) / samples
    squares = sum(float(np.square(_mono(audio, block) - mean).sum()) for block in blocks(samples))
    std = math.sqrt(squares / max(samples - 1, 1)) + TINY
    if not (math.isfinite(mean) and math.isfinite(std)):
        raise error(ErrorCode.AUDIO_CORRUPT, "the decoded audio holds samples that are not numbers")
    return mean, std


def _mono(audio: Audio, block: slice) -> NDArray[np.float64]:
    return np.asarray(audio[:, block].mean(axis=0, dtype=np.float64))
