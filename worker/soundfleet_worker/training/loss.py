"""The training loss: absolute error plus signal-to-distortion ratio, stem by stem."""

from __future__ import annotations

import torch

FLOOR = 1e-3
"""Energy, relative to the mixture's, below which a stem counts as silent."""


def separation_loss(estimate: torch.Tensor, stems: torch.Tensor) -> torch.Tensor:
    """Return the scalar loss of estimates against true stems, both (items, 4, 2, samples)."""
    mix = stems.sum(1, keepdim=True)
    scale = mix.abs().mean(dim=(2, 3), keepdim=True) + 1e-5
    absolute = ((estimate - stems).abs() / scale).mean()
    floor = FLOOR * mix.square().sum(dim=(2, 3)) + 1e-5
    error = (estimate - stems).square().sum(dim=(2, 3)) + floor
    energy = stems.square().sum(dim=(2, 3)) + floor
    distortion_db = 10.0 * torch.log10(error / energy)
    return absolute + 0.1 * distortion_db.mean()
