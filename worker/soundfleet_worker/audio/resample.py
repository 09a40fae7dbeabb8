"""Audio at another sample rate, block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr

from .channels import Samples

CHUNK = 1 << 16
"""Samples that are worked on at once."""


def chunks(audio: Samples) -> Iterator[Samples]:
    """Cut (channels, n), which may be memory-mapped, into blocks of at most CHUNK samples."""
    for start in range(0, audio.shape[1], CHUNK):
        yield np.asarray(audio[:, start : start + CHUNK], dtype=np.float32)


def resampled(audio: Samples, from_rate: int, to_rate: int, samples: int) -> Iterator[Samples]:
    """Yield (channels, n) blocks at ``to_rate``, in time with ``audio``; together they are ``samples`` long.

    By soxr at its very high quality, whose delay it makes up for itself. The end is cut, or padded with silence, by the
    sample or so in which two roundings differ.
    """
    left = samples
    for block in _resample(audio, from_rate, to_rate):
        block = block[:, :left]
        left -= block.shape[1]
        if block.size:
            yield block
    if left:
        yield np.zeros((audio.shape[0], left), dtype=np.float32)


def _resample(audio: Samples, from_rate: int, to_rate: int) -> Iterator[Samples]:
    stream = soxr.ResampleStream(from_rate, to_rate, audio.shape[0], "float32", "VHQ")
    for chunk in chunks(audio):
        yield stream.resample_chunk(np.ascontiguousarray(chunk.T)).T
    yield stream.resample_chunk(np.zeros((0, audio.shape[0]), dtype=np.float32), last=True).T
