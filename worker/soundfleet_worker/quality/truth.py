"""Distortion measured against true stems."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..audio.levels import si_sdr
from .sound import Sound
from .spectra import Spectrum

MOST_DB = 100.0
"""Stands for an exact copy, whose ratio is infinite and has no JSON."""
FRAMES, BINS = 16, 8
"""A block in which distortion is taken apart: 0.4 s by 172 Hz at 44.1 kHz."""


def measure_db(stem: Sound, reference: Sound) -> float:
    """Return the SI-SDR over the whole length, within what JSON can hold."""
    return float(np.clip(si_sdr(reference, stem), -MOST_DB, MOST_DB))


def artifacts(stem: Spectrum, reference: Spectrum, rest: Spectrum) -> float:
    """Return the share of the stem's energy that is neither the true stem nor the rest of the mix, at any gain.

    The gains are free in each block of time and frequency. All three have one shape.
    """
    own = total = 0.0
    for s, t, r in zip(_blocks(stem), _blocks(reference), _blocks(rest), strict=True):
        tt, rt = _inner(t, t).real + 1e-12, _inner(r, t)
        orthogonal = np.maximum(_inner(r, r).real - np.abs(rt) ** 2 / tt, 1e-12)
        st = _inner(s, t)
        sr = _inner(s, r) - st * rt.conj() / tt
        energy = _inner(s, s).real
        explained = np.abs(st) ** 2 / tt + np.abs(sr) ** 2 / orthogonal
        own += float(np.maximum(energy - explained, 0.0).sum())
        total += float(energy.sum())
    return own / total if total else 0.0


def _blocks(spectrum: Spectrum) -> Iterator[NDArray[np.complex64]]:
    """Yield (columns, FRAMES * BINS) for each row of blocks."""
    columns = (spectrum.shape[1] - 1) // BINS
    for row in range(spectrum.shape[0] // FRAMES):
        part = spectrum[row * FRAMES : (row + 1) * FRAMES, 1 : 1 + columns * BINS]
        yield part.reshape(FRAMES, columns, BINS).swapaxes(0, 1).reshape(columns, FRAMES * BINS)


def _inner(a: NDArray[np.complex64], b: NDArray[np.complex64]) -> NDArray[np.complex64]:
    product: NDArray[np.complex64] = (a * b.conj()).sum(axis=1)
    return product
