"""The diffusion transformer over rows of many runs: each row at its own timestep, with words of its own length.

It walks diffusers' ``AceStepTransformer1DModel`` itself: that class's forward takes no mask for the words, so rows of
different lengths could not share a launch, and it computes positions and masks anew at every call.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch.nn import functional

from .blocks import Layout, block, layout_of, normed

KEPT_LAYOUTS = 8


class Denoiser:
    """Says dx/dt."""

    def __init__(self, transformer: Any) -> None:
        self._transformer = transformer
        self._layouts: OrderedDict[int, Layout] = OrderedDict()

    def embed(self, words: torch.Tensor) -> torch.Tensor:
        """Bring words to the width of the transformer, once for all steps: (1, n, width)."""
        embedded: torch.Tensor = self._transformer.condition_embedder(words)
        return embedded

    def __call__(
        self, x: torch.Tensor, context: torch.Tensor, t: torch.Tensor, words: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the slopes, float32 of the shape of ``x``.

        ``x`` is (rows, frames, channels), ``context`` (rows, frames, 2 channels), ``t`` (rows,), ``words`` embedded,
        (rows, n, width), ``mask`` (rows, 1, 1, n), True where a word is, or None when all are.
        """
        model = self._transformer
        frames = x.shape[1]
        temb, table = model.time_embed(t)
        temb_r, table_r = model.time_embed_r(torch.zeros_like(t))
        temb, table = temb + temb_r, table + table_r
        hidden = torch.cat([context, x], dim=-1)
        hidden = functional.pad(hidden, (0, 0, 0, -frames % model.patch_size))
        hidden = model.proj_in_conv(hidden.transpose(1, 2)).transpose(1, 2).contiguous()
        layout = self._layout(hidden)
        near = layout.near.repeat(len(hidden), 1, 1, 1) if len(layout.near) > 1 else layout.near
        for kind, layer in zip(model.layer_types, model.layers, strict=True):
            local = near if kind == "sliding_attention" else None
            hidden = block(layer, hidden, table, layout, local, words, mask)
        shift, scale = (model.scale_shift_table + temb.unsqueeze(1)).chunk(2, dim=1)
        hidden = torch.addcmul(shift, normed(model.norm_out, hidden), 1 + scale)
        slopes: torch.Tensor = model.proj_out_conv(hidden.transpose(1, 2)).transpose(1, 2)
        return slopes[:, :frames].float()

    def _layout(self, hidden: torch.Tensor) -> Layout:
        tokens, model = hidden.shape[1], self._transformer
        if tokens not in self._layouts:
            window = model.config.sliding_window
            self._layouts[tokens] = layout_of(tokens, window, model.head_dim, model.rope_theta, hidden)
            if len(self._layouts) > KEPT_LAYOUTS:
                self._layouts.popitem(last=False)
        self._layouts.move_to_end(tokens)
        return self._layouts[tokens]
