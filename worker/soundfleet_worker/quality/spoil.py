"""Separations of known quality: those of a model, made better and worse in the ways in which separators fail."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .spectra import frames

Stems = NDArray[np.float32]
"""(stems, channels, samples)"""
ERRORS = (0.3, 0.6, 1.6, 2.5, 4.0)
LEAKS = (0.1, 0.3, 0.6)
NOISES = (0.1, 0.3)
SWAPS = (0.3, 0.7)
_SIZE, _HOP = 2048, 1024


def spoilt(true: Stems, estimates: Stems, seed: int) -> Iterator[tuple[str, Stems]]:
    """Yield named separations; those of one song always are the same."""
    chance = np.random.default_rng(seed)
    error, mix = estimates - true, true.sum(axis=0)
    yield "model", estimates
    for times in ERRORS:
        yield f"error x {times:g}", true + np.float32(times) * error
    energy = np.square(estimates, dtype=np.float64).sum(axis=(1, 2))
    share = (energy / energy.sum()).astype(np.float32)[:, None, None]
    for leak in LEAKS:
        yield f"leak {leak:g}", (np.float32(1 - leak) * estimates + np.float32(leak) * share * mix)
    worse = true + np.float32(2.5) * error
    yield "error x 2.5, leak 0.2", np.float32(0.8) * worse + np.float32(0.2) * share * mix
    yield "ratio masks of the true stems", _masked(true, mix, hard=False)
    yield "ratio masks", _masked(estimates, mix, hard=False)
    yield "ratio masks of error x 2.5", _masked(worse, mix, hard=False)
    yield "binary masks", _masked(estimates, mix, hard=True)
    for level in NOISES:
        yield f"noise {level:g}", estimates + _noise(true, level, chance)
    for part in SWAPS:
        into, out_of = chance.choice(len(true), 2, replace=False)
        swapped = estimates.copy()
        swapped[into] += np.float32(part) * estimates[out_of]
        swapped[out_of] *= np.float32(1 - part)
        yield f"swap {part:g}", swapped


def _masked(stems: Stems, mix: NDArray[np.float32], *, hard: bool) -> Stems:
    """Cut the mix by masks made of the stems' powers: the oldest way to separate."""
    out = np.empty_like(stems)
    for channel, mixed in enumerate(mix):
        power = np.stack([np.abs(frames(stem[channel], _SIZE)) ** 2 for stem in stems])
        masks = power == power.max(axis=0) if hard else power / (power.sum(axis=0) + 1e-12)
        spectrum = frames(mixed, _SIZE)
        for index, mask in enumerate(masks):
            out[index, channel] = _overlap_add(mask * spectrum, mix.shape[1])
    return out


def _overlap_add(spectra: NDArray[np.complex64], samples: int) -> NDArray[np.float32]:
    """Undo ``frames``: Hann windows that overlap by half add up to one."""
    audio = np.zeros(samples, dtype=np.float32)
    for index, frame in enumerate(np.fft.irfft(spectra, axis=1).astype(np.float32)):
        audio[index * _HOP : index * _HOP + _SIZE] += frame
    return audio


def _noise(true: Stems, level: float, chance: np.random.Generator) -> Stems:
    """Noise that cancels out between the stems, falling by 6 dB an octave above 700 Hz or so."""
    white = chance.standard_normal(true.shape, dtype=np.float32)
    white -= white.mean(axis=0)
    walk = np.cumsum(white, axis=2)
    slow = np.cumsum(walk, axis=2)
    walk[:, :, 64:] -= (slow[:, :, 64:] - slow[:, :, :-64]) / 64
    walk[:, :, :64] = 0.0
    scale = level * np.sqrt(np.square(true, dtype=np.float64).mean() / np.square(walk, dtype=np.float64).mean())
    return (walk * np.float32(scale)).astype(np.float32)
