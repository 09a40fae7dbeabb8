"""The VAE in tiles: windows of one length whose kept middles make up the whole.

A sample depends on ``reach`` latent frames to each side and on no others, so the middles of windows that overlap by as
much equal the whole but for rounding. All windows have the same length, also at the ends, where they are shifted
inwards: zeros beyond an end would not be what the convolutions pad with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

DILATIONS = (1, 3, 9)
KERNEL = 7


class Tile(NamedTuple):
    """One window, in latent frames from the beginning."""

    start: int
    length: int
    keep_from: int
    keep_to: int


def reach_of(ratios: Sequence[int]) -> int:
    """Return how many latent frames to each side a sample depends on; the encoder reaches less far.

    ``ratios`` are those of the encoder, from the audio to the latents.
    """
    half = KERNEL // 2
    reach, rate = float(half), 1
    for ratio in reversed(ratios):
        reach += 1 / rate  # the transposed convolution
        rate *= ratio
        reach += half * sum(DILATIONS) / rate
    return math.ceil(reach + half / rate)


def tiles_of(frames: int, core: int, reach: int) -> list[Tile]:
    """Lay out ``frames`` in windows of ``core`` frames and the reach on both sides; one window when that is enough."""
    length = core + 2 * reach
    if frames <= length:
        return [Tile(0, frames, 0, frames)]
    starts = range(0, frames, core)
    return [
        Tile(min(max(start - reach, 0), frames - length), length, start, min(start + core, frames)) for start in starts
    ]


def decode(vae: Any, latents: Sequence[torch.Tensor], tiles: Sequence[Tile], slots: int) -> list[torch.Tensor]:
    """Return the kept audio of each tile, float32 (2, samples) on the CPU, from one launch of ``slots`` windows.

    ``latents`` are those of each tile's run, (frames, channels); the tiles have one length.
    """
    import torch

    windows = [x[tile.start : tile.start + tile.length] for x, tile in zip(latents, tiles, strict=True)]
    windows += windows[:1] * (slots - len(windows))
    batch = torch.stack(windows).transpose(1, 2).to(vae.dtype)
    audio = _fetched(vae.decoder(batch).float())
    hop = audio.shape[-1] // batch.shape[-1]
    return [
        piece[:, (tile.keep_from - tile.start) * hop : (tile.keep_to - tile.start) * hop]
        for piece, tile in zip(audio, tiles, strict=False)  # the launch's other slots give nothing
    ]


def _fetched(audio: torch.Tensor) -> torch.Tensor:
    """Bring audio to the CPU; from a GPU into pinned memory, which is several times as fast."""
    import torch

    if audio.device.type != "cuda":
        return audio.cpu()
    return torch.empty_like(audio, device="cpu", pin_memory=True).copy_(audio)


def encode(vae: Any, audio: torch.Tensor, tile: Tile, hop: int) -> torch.Tensor:
    """Return what the encoder says of a tile's kept frames, float32 (2 channels, frames): means and scales.

    ``audio`` is (2, samples) of whole frames.
    """
    window = audio[:, tile.start * hop : (tile.start + tile.length) * hop]
    said: torch.Tensor = vae.encoder(window[None].to(vae.device, vae.dtype))[0].float()
    return said[:, tile.keep_from - tile.start : tile.keep_to - tile.start]


def sample(said: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Draw latents, (frames, channels), from means and scales, with noise of shape (channels, frames)."""
    import torch

    mean, scale = said.chunk(2, dim=0)
    return (mean + (torch.nn.functional.softplus(scale) + 1e-4) * noise.to(said.device)).T.contiguous()
