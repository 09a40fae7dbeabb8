"""The sum rule: the stems that are delivered add up to the mix.

A model's estimates leave a residual, mix - sum(estimates). It is shared out among all stems in proportion to their
energy over the piece, before a subset is selected: a silent stem stays silent, and SI-SDR pays least. Karaoke is
mix - vocals, which is the same as the sum of the other stems. Only when a subset lets sub-models of a bag be skipped
(``htdemucs_ft`` has one per stem) are estimates delivered as they are, because not all of them exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from soundfleet_schemas import INSTRUMENTAL

Audio = NDArray[np.float32]

BLOCK = 1 << 18
"""Samples that are worked on at a time, so that no copy of a whole stem is ever made."""
PEAK = 10 ** (-1 / 20)
"""-1 dBFS."""


def blocks(samples: int) -> Iterator[slice]:
    """Cut ``samples`` into slices of at most BLOCK."""
    return (slice(start, min(start + BLOCK, samples)) for start in range(0, samples, BLOCK))


def share_residual(stems: Mapping[str, Audio], mix: Audio) -> None:
    """Change the stems, (2, n) each, in place so that they add up to the mix, (2, n)."""
    shares = _shares(stems)
    for block in blocks(mix.shape[1]):
        residual = mix[:, block] - sum(stem[:, block] for stem in stems.values())
        for name, share in shares.items():
            stems[name][:, block] += np.float32(share) * residual


def _shares(stems: Mapping[str, Audio]) -> dict[str, float]:
    energy = {name: _energy(stem) for name, stem in stems.items()}
    total = sum(energy.values())
    if total <= 0.0:
        return {name: 1 / len(stems) for name in stems}
    return {name: value / total for name, value in energy.items()}


def _energy(stem: Audio) -> float:
    return sum(float(np.square(stem[:, block]).sum(dtype=np.float64)) for block in blocks(stem.shape[1]))


def take_instrumental(stems: dict[str, Audio], mix: Audio) -> dict[str, Audio]:
    """Turn the vocals, in place, into all but the vocals."""
    vocals = stems["vocals"]
    for block in blocks(mix.shape[1]):
        np.subtract(mix[:, block], vocals[:, block], out=vocals[:, block])
    return {INSTRUMENTAL: vocals}


def normalise(stems: Mapping[str, Audio]) -> float:
    """Scale all stems in place by the one gain that lets the loudest peak at -1 dBFS; returns the gain."""
    peak = max(_peak(stem) for stem in stems.values())
    if not 0.0 < peak < np.inf:  # silence stays silence; what is not a number is found when it is written
        return 1.0
    gain = PEAK / peak
    for stem in stems.values():
        stem *= np.float32(gain)
    return gain


def _peak(stem: Audio) -> float:
    return max((float(np.abs(stem[:, block]).max()) for block in blocks(stem.shape[1])), default=0.0)
