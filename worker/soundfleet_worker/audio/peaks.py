"""The waveform of a file for players: lowest and highest sample per point, in audiowaveform's JSON format, version 2.

One waveform for both channels: the lower minimum and the higher maximum, so that nothing is hidden that one channel, or
their difference, has.
"""

from __future__ import annotations

import math

import numpy as np

from soundfleet_schemas import Record

from .channels import Samples

POINTS = 2_000
"""At most so many, and more than half of it for anything longer: a line of them fills any screen."""
_FULL_SCALE = 1 << 15


class Waveform(Record, frozen=True, kw_only=True):
    """A document in audiowaveform's format, whose field names these are."""

    version: int
    channels: int
    sample_rate: int
    samples_per_pixel: int
    bits: int
    length: int
    """Points, each of which has a minimum and a maximum."""
    data: tuple[int, ...]
    """Minimum and maximum in turn, full scale 32768: 16 bits, because a quiet stem has nothing left of 8."""


class Peaks:
    """Takes the samples of a file of known length as they pass by in chunks."""

    def __init__(self, samples: int, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._per_point = max(1, math.ceil(samples / POINTS))
        points = math.ceil(samples / self._per_point)
        self._low = np.full(points, np.inf, dtype=np.float32)
        self._high = np.full(points, -np.inf, dtype=np.float32)
        self._position = 0

    def add(self, chunk: Samples) -> None:
        """Take the next chunk, (channels, n); not more than there were said to be."""
        begin, end = self._position, self._position + chunk.shape[1]
        if begin == end:
            return
        first, last = begin // self._per_point, (end - 1) // self._per_point + 1
        starts = np.maximum(np.arange(first, last) * self._per_point - begin, 0)
        low, high = self._low[first:last], self._high[first:last]
        np.minimum(low, np.minimum.reduceat(chunk.min(axis=0), starts), out=low)
        np.maximum(high, np.maximum.reduceat(chunk.max(axis=0), starts), out=high)
        self._position = end

    def waveform(self) -> Waveform:
        """The document, once every chunk was taken."""
        pairs = np.stack([self._low, self._high], axis=1) * _FULL_SCALE
        data = np.clip(np.rint(pairs), -_FULL_SCALE, _FULL_SCALE - 1).astype(int)
        return Waveform(
            version=2,
            channels=1,
            sample_rate=self._sample_rate,
            samples_per_pixel=self._per_point,
            bits=16,
            length=len(data),
            data=tuple(data.ravel().tolist()),
        )
