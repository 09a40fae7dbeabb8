"""What calls and tiles cost, so that all steps of a run take about equally long: only then can its end be foretold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .parts import Parts

SMALLEST_TILE = 128
"""Latent frames that a tile keeps at least: below, its margins cost more than itself."""


def call_flops(parts: Parts, frames: int, rows: int) -> int:
    """Count the operations of one call of the transformer: its matrices, which are nearly all."""
    weights: int = sum(p.numel() for p in parts.transformer.layers.parameters())
    tokens = -(-frames // int(parts.transformer.config.patch_size))
    return 2 * weights * tokens * rows


def frame_flops(parts: Parts) -> int:
    """Count the operations that the VAE needs for one latent frame, either way."""
    decoder = parts.vae.decoder
    rate, products = 1, int(decoder.conv1.weight.numel())
    for ratio, block in zip(reversed(parts.vae.config.downsampling_ratios), decoder.block, strict=True):
        products += rate * int(block.conv_t1.weight.numel())
        rate *= ratio
        for unit in (block.res_unit1, block.res_unit2, block.res_unit3):
            products += rate * int(unit.conv1.weight.numel() + unit.conv2.weight.numel())
    return 2 * (products + rate * int(decoder.conv2.weight.numel()))


def tile_frames(parts: Parts, frames: int, rows: int, largest: int) -> int:
    """Return how many frames a tile keeps so that it costs about as much as a call: a power of two.

    So runs of about the same length have tiles of the same size, and share launches. It follows from the shapes alone.
    """
    affordable = min(largest, max(SMALLEST_TILE, call_flops(parts, frames, rows) // frame_flops(parts)))
    return 1 << round(math.log2(affordable))
