"""How much memory launches and runs take: predictions, on the safe side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .words import LENGTHS

if TYPE_CHECKING:
    from .launches import Sizes
    from .parts import Parts

OF_THE_TRANSFORMER = 8
"""Tensors of (tokens, intermediate size) that are alive in a block."""
OF_THE_VAE = {"cpu": 16, "cuda": 5}
"""Tensors of (samples, first channels) that are alive at the decoder's end, where they are largest.

Measured on a CPU, where most of them are dead: what was freed in other sizes is not used again.
"""
OF_THE_KERNELS = {"cpu": 1 << 27, "cuda": 1 << 29}
"""Bytes that the libraries below take for themselves at their first calls: code, copies of weights, workspaces."""
FLOAT32 = 4


def launch_bytes(parts: Parts, sizes: Sizes, frames: int, reach: int) -> int:
    """Predict the larger of a call of the transformer over the longest songs and a launch of tiles."""
    config, width = parts.transformer.config, parts.dtype.itemsize
    tokens = -(-frames // int(config.patch_size))
    rows = 2 * sizes.runs(2 * tokens)
    denoise = rows * (tokens + LENGTHS[-1]) * int(config.intermediate_size) * OF_THE_TRANSFORMER * width
    samples = (sizes.tile_frames + 2 * reach) * parts.hop
    place = parts.device.type
    decode = sizes.tiles * samples * int(parts.vae.config.decoder_channels) * OF_THE_VAE[place] * width
    return max(denoise, decode) + OF_THE_KERNELS[place]


def run_bytes(parts: Parts, samples: int, inputs: int) -> int:
    """Predict what a run of so many samples adds, with so many recordings: the track, its latents, its words."""
    frames = parts.frames_of(samples)
    latents = (6 + 5 * inputs) * frames * parts.channels * FLOAT32
    words = 2 * LENGTHS[-1] * int(parts.transformer.config.hidden_size) * parts.dtype.itemsize
    return latents + words + (1 + inputs) * 2 * samples * FLOAT32
