"""What calls and tiles cost, so that all steps of a run take about equally long: only then can its end be foretold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .parts import Parts

SMALLEST_TILE = 128
"""Latent frames that a tile keeps at least: below, its margins cost more than itself."""


class Costs:
    """Counts operations: from shapes alone, so that every process lays runs out alike."""

    def __init__(self, parts: Parts) -> None:
        transformer = parts.transformer
        self._patch = int(transformer.config.patch_size)
        self._weights = int(sum(p.numel() for p in transformer.layers.parameters()))
        self._width = int(transformer.config.num_attention_heads) * int(transformer.head_dim)
        self._window = 3 * int(transformer.config.sliding_window)
        self._local = sum(bool(kind == "sliding_attention") for kind in transformer.layer_types)
        self._global = len(transformer.layer_types) - self._local
        self.frame = _frame_flops(parts)
        """Operations that the VAE needs for one latent frame, either way."""

    def call(self, frames: int, rows: int) -> int:
        """Count the operations of one call of the transformer: its matrices, and the tokens' attention."""
        tokens = -(-frames // self._patch)
        seen = self._local * min(tokens, self._window) + self._global * tokens
        flops: int = tokens * rows * (2 * self._weights + 4 * seen * self._width)
        return flops

    def tile_frames(self, frames: int, rows: int, largest: int) -> int:
        """Return how many frames a tile keeps so that it costs about as much as a call: a power of two.

        So runs of about the same length have tiles of the same size, and share launches.
        """
        affordable = min(largest, max(SMALLEST_TILE, self.call(frames, rows) // self.frame))
        return 1 << round(math.log2(affordable))


def _frame_flops(parts: Parts) -> int:
    decoder = parts.vae.decoder
    rate, products = 1, int(decoder.conv1.weight.numel())
    for ratio, block in zip(reversed(parts.vae.config.downsampling_ratios), decoder.block, strict=True):
        products += rate * int(block.conv_t1.weight.numel())
        rate *= ratio
        for unit in (block.res_unit1, block.res_unit2, block.res_unit3):
            products += rate * int(unit.conv1.weight.numel() + unit.conv2.weight.numel())
    return 2 * (products + rate * int(decoder.conv2.weight.numel()))
