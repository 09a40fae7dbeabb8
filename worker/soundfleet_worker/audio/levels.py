"""Levels of audio, and how far an estimate is from its reference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .channels import Samples

SILENCE_DBFS = -200.0
"""Stands for digital silence, whose level is minus infinity and has no JSON."""
_CHUNK = 1 << 16


class Meter:
    """Peak and RMS of audio that passes by in chunks. A full-scale square wave has 0 dBFS of both."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._energy = 0.0
        self._values = 0

    def add(self, chunk: Samples) -> None:
        """Measure one chunk of any shape."""
        self._peak = max(self._peak, float(np.abs(chunk).max(initial=0.0)))
        self._energy += float(np.square(chunk, dtype=np.float64).sum())
        self._values += chunk.size

    @property
    def peak_dbfs(self) -> float:
        """Of the loudest sample of any channel."""
        return _decibels(self._peak**2)

    @property
    def rms_dbfs(self) -> float:
        """Over all samples of all channels."""
        return _decibels(self._energy / self._values if self._values else 0.0)


def exceeds_full_scale(blocks: Iterable[Samples]) -> bool:
    """Say whether a sample is beyond 1.0; stops at the first block that has one."""
    return any(bool((np.abs(block) > 1.0).any()) for block in blocks)


class Readable(Protocol):
    """Audio that is read in parts: an array, or what behaves as one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, part: Any, /) -> Any: ...


def snr_db(reference: NDArray[np.floating], estimate: NDArray[np.floating]) -> float:
    """Return 10 log10(|reference|^2 / |reference - estimate|^2) of two arrays of one shape; inf when they are equal."""
    signal = noise = 0.0
    for wanted, got in _chunks(reference, estimate):
        signal += float(np.square(wanted).sum())
        noise += float(np.square(wanted - got).sum())
    return _ratio_db(signal, noise)


def si_sdr(reference: Readable, estimate: Readable) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB, over all channels as one signal.

    The estimate's projection on the reference is the signal, the rest is distortion: Le Roux, Wisdom, Erdogan and
    Hershey, "SDR - half-baked or well done?", ICASSP 2019 (arXiv:1811.02508). No mean is taken off. -inf for a silent
    estimate or reference, inf for an exact multiple. Both arrays have one shape.
    """
    dot = energy = total = 0.0
    for wanted, got in _chunks(reference, estimate):
        dot += float((wanted * got).sum())
        energy += float(np.square(wanted).sum())
        total += float(np.square(got).sum())
    if energy == 0.0 or total == 0.0:
        return -math.inf
    target = dot * dot / energy
    return _ratio_db(target, max(0.0, total - target))


def _chunks(reference: Readable, estimate: Readable) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Walk two arrays of one shape along their last axis, in double precision."""
    if reference.shape != estimate.shape:
        raise ValueError(f"the shapes differ: {reference.shape} and {estimate.shape}")
    for start in range(0, reference.shape[-1], _CHUNK):
        part = (..., slice(start, start + _CHUNK))
        yield reference[part].astype(np.float64), estimate[part].astype(np.float64)


def _ratio_db(signal: float, noise: float) -> float:
    if signal == 0.0:
        return -math.inf
    return math.inf if noise == 0.0 else 10 * math.log10(signal / noise)


def _decibels(power: float) -> float:
    return max(SILENCE_DBFS, 10 * math.log10(power)) if power > 0.0 else SILENCE_DBFS
