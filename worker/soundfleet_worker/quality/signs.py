"""What an estimated stem shows of its own distortion, beside the rest of the mix.

True stems of a song overlap in time and frequency, but they hardly correlate there: each instrument has its own phase.
Sound that leaked, or a mask that cut one mix in two, correlates with the rest; distortion that was taken from one stem
and left in another correlates negatively.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .spectra import Spectrum

Power = NDArray[np.float32]

SIGNS = ("envelopes", "floor", "overlap", "taken", "shared", "spread")
FRAMES, BINS = 32, 4
"""A block in which two sounds are compared: 0.75 s by 86 Hz at 44.1 kHz, long enough for phases to drift apart."""
BANDS = 24
QUIET = 5
"""One frame in five counts as quiet."""
HELD = 0.9
"""Share of the energy whose spread is looked at."""
_TINY = 1e-5
"""50 dB below the stem: what is less than that is not there."""


def signs(stem: Spectrum, rest: Spectrum) -> NDArray[np.float64]:
    """Return the signs in the order of SIGNS; the stem is not silent, and there are at least FRAMES frames."""
    own, others = _power(stem), _power(rest)
    cross = _blocks((stem * rest.conj()).real)
    mine, theirs = _blocks(own), _blocks(others)
    total = float(own.sum()) or 1.0
    common = float(np.minimum(mine, theirs).sum()) or total
    a, b = _envelopes(own), _envelopes(others)
    weights = a.sum(axis=0) / (a.sum() + 1e-20)
    return np.array(
        [
            weights @ _correlation(a, b),
            _decibels(weights @ _floor(a)),
            _decibels(float((mine * theirs / (mine + theirs + 1e-20)).sum()) / total),
            _decibels(float(np.maximum(-cross, 0.0).sum()) / total),
            _decibels(float(np.maximum(cross, 0.0).sum()) / common),
            _decibels(_spread(own)),
        ]
    )


def _power(spectrum: Spectrum) -> Power:
    return np.square(spectrum.real) + np.square(spectrum.imag)


def _blocks(values: Power) -> NDArray[np.float64]:
    """Sum over blocks of FRAMES by BINS; the mean and what fills no block are left out."""
    rows, columns = values.shape[0] // FRAMES, (values.shape[1] - 1) // BINS
    whole = values[: rows * FRAMES, 1 : 1 + columns * BINS].reshape(rows, FRAMES, columns * BINS)
    # Whole rows first: along both axes at once numpy takes six times as long.
    summed: NDArray[np.float64] = whole.sum(axis=1, dtype=np.float64).reshape(rows, columns, BINS).sum(axis=2)
    return summed


def _envelopes(power: Power) -> NDArray[np.float64]:
    """Loudness over time, (frames, bands): bands are narrow below and wide above."""
    edges = np.unique(np.round(np.geomspace(2, power.shape[1] - 1, BANDS + 1)).astype(int))
    return np.sqrt(np.add.reduceat(power, edges[:-1], axis=1).astype(np.float64))


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    lengths = np.square(a).sum(axis=0) * np.square(b).sum(axis=0)
    correlation: NDArray[np.float64] = (a * b).sum(axis=0) / np.sqrt(lengths + 1e-20)
    return correlation


def _floor(envelopes: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much is left in a band when the stem pauses: the mean power of its quiet frames over that of all."""
    power = np.sort(np.square(envelopes), axis=0)
    floor: NDArray[np.float64] = power[: len(power) // QUIET + 1].mean(axis=0) / (power.mean(axis=0) + 1e-20)
    return floor


def _spread(power: Power) -> float:
    """The share of all points of time and frequency that holds most of the energy; every second frame is enough."""
    loudest = np.sort(power[::2].ravel())[::-1]
    held = np.cumsum(loudest, dtype=np.float64)
    return float(np.searchsorted(held, HELD * held[-1]) + 1) / len(loudest)


def _decibels(ratio: float) -> float:
    return float(10 * np.log10(ratio + _TINY))
