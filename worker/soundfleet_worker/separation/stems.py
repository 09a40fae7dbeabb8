"""The sum rule: the stems that are delivered add up to the mix.

A model's estimates leave a residual, mix - sum(estimates). It is shared out among all stems in proportion to their
energy over the piece, before a subset is selected: a silent stem stays silent, and SI-SDR pays least. Karaoke, and
the rest beside one stem, is mix - stem, which is the same as the sum of the other stems. Only when a subset lets
sub-models of a bag be skipped (``htdemucs_ft`` has one per stem) are estimates delivered as they are, because not all
of them exist. All of it happens where the stems are, on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

BLOCK = 1 << 18
"""Samples that are worked on at a time, so that no copy of a whole stem is ever made."""
PEAK = 10 ** (-1 / 20)
"""-1 dBFS."""
SILENCE = 1e-10
"""-200 dBFS: a gain that raised less would raise rounding, and may be too large for float32."""


def blocks(samples: int) -> Iterator[slice]:
    """Cut ``samples`` into slices of at most BLOCK."""
    return (slice(start, min(start + BLOCK, samples)) for start in range(0, samples, BLOCK))


def share_residual(stems: Mapping[str, Tensor], mix: Tensor) -> None:
    """Change the stems, (2, n) each, in place so that they add up to the mix, (2, n)."""
    shares = _shares(stems)
    for block in blocks(mix.shape[1]):
        residual = mix[:, block].clone()
        for stem in stems.values():
            residual -= stem[:, block]
        for name, share in shares.items():
            stems[name][:, block].add_(residual, alpha=share)


def _shares(stems: Mapping[str, Tensor]) -> dict[str, float]:
    energies = torch.stack([_energy(stem) for stem in stems.values()]).tolist()
    total = sum(energies)
    if total <= 0.0:
        return {name: 1 / len(stems) for name in stems}
    return {name: value / total for name, value in zip(stems, energies, strict=True)}


def _energy(stem: Tensor) -> Tensor:
    zero = torch.zeros((), dtype=torch.float64, device=stem.device)
    return sum((stem[:, block].double().square_().sum() for block in blocks(stem.shape[1])), zero)


def take_rest(stem: Tensor, mix: Tensor, into: Tensor) -> Tensor:
    """Write all of the mix but the stem into a tensor of the mix's shape, and return it."""
    return torch.sub(mix, stem, out=into)


def normalise(stems: Mapping[str, Tensor]) -> float:
    """Scale all stems in place by the one gain that lets the loudest peak at -1 dBFS; returns the gain."""
    peak = max(torch.stack([_peak(stem) for stem in stems.values()]).tolist())
    if not SILENCE < peak < float("inf"):  # silence stays silence; what is not a number is found when it is written
        return 1.0
    gain: float = PEAK / peak
    for stem in stems.values():
        stem.mul_(gain)
    return gain


def _peak(stem: Tensor) -> Tensor:
    low, high = torch.aminmax(stem)
    return torch.maximum(-low, high)
