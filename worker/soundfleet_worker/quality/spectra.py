"""Short-time spectra of a few excerpts of a song."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..audio.levels import Readable

Audio: TypeAlias = NDArray[np.float32]
"""(channels, samples)"""
Spectrum: TypeAlias = NDArray[np.complex64]
"""(frames, bins)"""

EXCERPTS = 6
EXCERPT_SEC = 3.0
WINDOW_SEC = 0.046
"""2048 samples at 44.1 kHz; the nearest power of two at other rates."""


class Excerpt(NamedTuple):
    """A part of one channel."""

    channel: int
    part: slice


def excerpts(samples: int, sample_rate: int, channels: int = 2) -> list[Excerpt]:
    """Choose what is looked at: parts spread evenly, of the channels in turn; all of a short song.

    One channel of a part says as much as both at half the cost; a mean of the channels would lose what they have
    against each other.
    """
    length = round(EXCERPT_SEC * sample_rate)
    if samples * channels <= EXCERPTS * length:
        return [Excerpt(channel, slice(0, samples)) for channel in range(channels)]
    length = min(length, samples // EXCERPTS)
    pause = (samples - EXCERPTS * length) / (EXCERPTS - 1)
    starts = [round(index * (length + pause)) for index in range(EXCERPTS)]
    return [Excerpt(index % channels, slice(start, start + length)) for index, start in enumerate(starts)]


def spectrum(audio: Readable, chosen: Sequence[Excerpt], sample_rate: int) -> Spectrum:
    """Return the spectra of the excerpts, one after the other."""
    size = 1 << round(math.log2(WINDOW_SEC * sample_rate))
    return np.concatenate([frames(audio[:, part][channel], size) for channel, part in chosen])


def frames(audio: NDArray[np.float32], size: int) -> Spectrum:
    """Return the spectra of Hann windows that overlap by half, (frames, size / 2 + 1)."""
    if len(audio) < size:
        return np.zeros((0, size // 2 + 1), dtype=np.complex64)
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    cut = np.lib.stride_tricks.sliding_window_view(np.asarray(audio, dtype=np.float32), size)[:: size // 2]
    return np.fft.rfft(cut * window, axis=1).astype(np.complex64)
