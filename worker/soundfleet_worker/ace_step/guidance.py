"""Adaptive projected guidance: away from what the model says without words, without turning everything up.

S. Sadat, O. Hilliges and R. M. Weber, "Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion
Models", 2024 (arXiv:2410.02416), with the constants of ACE-Step: only the part of the difference that is orthogonal to
the prediction counts, its norm over time is bounded, and it swings back by a negative momentum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MOMENTUM = -0.75
LARGEST_NORM = 2.5


def guide(
    worded: torch.Tensor, wordless: torch.Tensor, scale: torch.Tensor, momentum: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the guided prediction and the new momentum.

    All of shape (runs, frames, channels), ``scale`` (runs, 1, 1); no run sees another. Norms are over frames, per
    channel; a run's first momentum is zeros.
    """
    import torch

    difference = worded - wordless + MOMENTUM * momentum
    norm = difference.norm(p=2, dim=1, keepdim=True)
    bounded = (difference * torch.clamp(LARGEST_NORM / norm, max=1.0)).double()
    direction = torch.nn.functional.normalize(worded.double(), dim=1)
    across = bounded - (bounded * direction).sum(dim=1, keepdim=True) * direction
    return worded + (scale - 1.0) * across.to(worded.dtype), difference
