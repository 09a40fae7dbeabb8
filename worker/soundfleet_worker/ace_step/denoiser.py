"""The diffusion transformer over rows of many runs: each row at its own timestep, with words of its own length.

It walks the blocks of diffusers' ``AceStepTransformer1DModel`` itself: that class's forward takes no mask for the
words, so rows of different lengths could not share a launch, and it computes positions and masks anew at every call.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

KEPT_LAYOUTS = 8


class Layout(NamedTuple):
    """What only depends on the number of tokens."""

    rotary: tuple[torch.Tensor, torch.Tensor]
    near: torch.Tensor
    """Which tokens the layers of local attention see: (1, 1, tokens, tokens), boolean."""


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
        self, x: torch.Tensor, context: torch.Tensor, t: torch.Tensor, words: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the slopes, float32 of the shape of ``x``.

        ``x`` is (rows, frames, channels), ``context`` (rows, frames, 2 channels), ``t`` (rows,), ``words`` embedded,
        (rows, n, width), ``mask`` (rows, 1, 1, n), True where a word is.
        """
        import torch

        model = self._transformer
        frames = x.shape[1]
        temb, table = model.time_embed(t)
        temb_r, table_r = model.time_embed_r(torch.zeros_like(t))
        temb, table = temb + temb_r, table + table_r
        hidden = torch.cat([context, x], dim=-1)
        hidden = torch.nn.functional.pad(hidden, (0, 0, 0, -frames % model.patch_size))
        hidden = model.proj_in_conv(hidden.transpose(1, 2)).transpose(1, 2)
        layout = self._layout(hidden)
        for kind, layer in zip(model.layer_types, model.layers, strict=True):
            hidden = layer(
                hidden_states=hidden,
                position_embeddings=layout.rotary,
                temb=table,
                attention_mask=layout.near if kind == "sliding_attention" else None,
                encoder_hidden_states=words,
                encoder_attention_mask=mask,
            )
        shift, scale = (model.scale_shift_table + temb.unsqueeze(1)).chunk(2, dim=1)
        hidden = (model.norm_out(hidden) * (1 + scale) + shift).type_as(hidden)
        slopes: torch.Tensor = model.proj_out_conv(hidden.transpose(1, 2)).transpose(1, 2)
        return slopes[:, :frames].float()

    def _layout(self, hidden: torch.Tensor) -> Layout:
        import torch
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        tokens = hidden.shape[1]
        if tokens not in self._layouts:
            model = self._transformer
            place = torch.arange(tokens, device=hidden.device)
            rotary: Any = get_1d_rotary_pos_embed  # its annotation leaves out the tensors that it takes
            cos, sin = rotary(
                model.head_dim, place.float(), theta=model.rope_theta, use_real=True, repeat_interleave_real=False
            )
            near = (place[:, None] - place[None, :]).abs() <= model.config.sliding_window
            self._layouts[tokens] = Layout((cos.to(hidden.dtype), sin.to(hidden.dtype)), near[None, None])
            if len(self._layouts) > KEPT_LAYOUTS:
                self._layouts.popitem(last=False)
        self._layouts.move_to_end(tokens)
        return self._layouts[tokens]
