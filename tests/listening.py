"""What tests do with audio that a fleet has delivered: read it, and hold it against what was sent in."""

from __future__ import annotations

import io
import math

import av
import numpy as np
import soxr

from tests.media import Signal

SIDES = {
    1: (1.0,),
    2: (1.0, 0.0),
    6: (1.0, 0.0, math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0),
    8: (1.0, 0.0, math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0),
}
"""Share of each channel in the left one; the right one's is the mirror."""


def read(data: bytes) -> Signal:
    """Decode a wav or flac of integers or floats to (channels, samples)."""
    with av.open(io.BytesIO(data)) as container:
        channels = container.streams.audio[0].channels
        blocks = [
            frame.to_ndarray() if frame.format.is_planar else frame.to_ndarray().reshape(-1, channels).T
            for frame in container.decode(audio=0)
        ]
    audio = np.concatenate(blocks, axis=1)
    scale = 1.0 if audio.dtype.kind == "f" else 2.0 ** (8 * audio.dtype.itemsize - 1)
    return (audio / scale).astype(np.float32)


def stereo(audio: Signal, rate: int, wanted: int = 44_100) -> Signal:
    """Mix a signal of 1, 2, 6 or 8 channels down after ITU-R BS.775 and bring it to another rate."""
    left = SIDES[audio.shape[0]]
    right = (
        (left[1], left[0], *(left[i ^ 1] if i > 3 else left[i] for i in range(2, len(left)))) if len(left) > 1 else left
    )
    mixed = np.array([left, right], np.float32) @ audio
    return mixed if rate == wanted else np.ascontiguousarray(soxr.resample(mixed.T, rate, wanted, "VHQ").T)


def lag(reference: Signal, other: Signal) -> int:
    """Samples by which ``other`` is late: where their correlation peaks."""
    size = reference.shape[1] + other.shape[1]
    spectrum = (np.fft.rfft(reference, size).conj() * np.fft.rfft(other, size)).sum(axis=0)
    best = int(np.argmax(np.fft.irfft(spectrum, size)))
    return best if best < size // 2 else best - size


def snr_db(reference: Signal, other: Signal) -> float:
    """How far what ``other`` differs by lies below the reference."""
    difference = np.square(reference.astype(np.float64) - other).sum()
    power = np.square(reference.astype(np.float64)).sum()
    return math.inf if difference == 0 else 10 * math.log10(max(power, 1e-30) / difference)
