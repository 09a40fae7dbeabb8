"""HTDemucs' transformer for inference: tokens of the two branches, (batch, tokens, channels)."""

from __future__ import annotations

from typing import Any

import torch
from demucs.transformer import create_2d_sin_embedding, create_sin_embedding
from torch import Tensor
from torch.nn import functional

from .fast_ops import linear, linear_then

Pair = tuple[Tensor, Tensor]
"""Weight and bias."""


def pair(weight: Tensor, bias: Tensor, dtype: torch.dtype, scale: Tensor | None = None) -> Pair:
    """Return both in ``dtype``, each output scaled."""
    if scale is not None:
        weight, bias = weight * scale[:, None], bias * scale
    return weight.detach().to(dtype).contiguous(), bias.detach().to(dtype).contiguous()


class Layer:
    """One layer of one branch: attention, within the branch or to the other one, and a feed-forward part."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        self.crosses = hasattr(layer, "cross_attn")
        attention = layer.cross_attn if self.crosses else layer.self_attn
        scales = [getattr(gamma, "scale", None) for gamma in (layer.gamma_1, layer.gamma_2)]
        names = ("norm1", "norm2", "norm3") if self.crosses else ("norm1", "norm2")
        norms = [getattr(layer, name) for name in names]
        self._eps = norms[0].eps
        self._norms = [pair(norm.weight, norm.bias, dtype) for norm in norms]
        self._heads = attention.num_heads
        self._into = pair(attention.in_proj_weight, attention.in_proj_bias, dtype)
        self._out = pair(attention.out_proj.weight, attention.out_proj.bias, dtype, scales[0])
        self._wide = pair(layer.linear1.weight, layer.linear1.bias, dtype)
        self._back = pair(layer.linear2.weight, layer.linear2.bias, dtype, scales[1])
        norm = layer.norm_out
        self._last = None if norm is None else (*pair(norm.weight, norm.bias, dtype), norm.eps)

    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        """``other`` are the other branch's tokens, before this layer."""
        mixed = self._attend(self._norm(x, 0), self._norm(other, 1) if self.crosses else None)
        x = linear_then("add", mixed, x, *self._out)
        wide = linear(self._norm(x, -1), *self._wide, "gelu")
        x = linear_then("add", wide, x, *self._back)
        if self._last is None:
            return x
        weight, bias, eps = self._last
        return torch.addcmul(bias, functional.layer_norm(x, x.shape[1:], eps=eps), weight)

    def _norm(self, x: Tensor, index: int) -> Tensor:
        return functional.layer_norm(x, x.shape[2:], *self._norms[index], self._eps)

    def _attend(self, x: Tensor, other: Tensor | None) -> Tensor:
        batch, _, width = x.shape
        weight, bias = self._into
        if other is None:
            q, k, v = linear(x, weight, bias).view(batch, -1, 3, self._heads, width // self._heads).unbind(2)
        else:
            q = linear(x, weight[:width], bias[:width]).view(batch, -1, self._heads, width // self._heads)
            both = linear(other, weight[width:], bias[width:])
            k, v = both.view(batch, -1, 2, self._heads, width // self._heads).unbind(2)
        out = functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return out.transpose(1, 2).reshape(x.shape)


class Transformer:
    """A ``CrossTransformerEncoder`` with the convolutions around it.

    Tokens of a spectrum keep the order that they have in memory, frequency by frequency: attention does not mind, and
    positions are laid out to match.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        inner = model.crosstransformer
        self._dtype, self._eps, self._width = dtype, inner.norm_in.eps, inner.norm_in.normalized_shape[0]
        self._period, self._weight = inner.max_period, inner.weight_pos_embed
        self._norms = [pair(norm.weight, norm.bias, dtype) for norm in (inner.norm_in, inner.norm_in_t)]
        self._layers = [
            (Layer(one, dtype), Layer(other, dtype)) for one, other in zip(inner.layers, inner.layers_t, strict=True)
        ]
        names = ("channel_upsampler", "channel_upsampler_t", "channel_downsampler", "channel_downsampler_t")
        convs: list[Any] = [getattr(model, name) for name in names] if model.bottom_channels else []
        self._around = [pair(conv.weight[:, :, 0], conv.bias, dtype) for conv in convs]
        self._known: dict[tuple[int, ...], tuple[Tensor, ...]] = {}

    def __call__(self, x: Tensor, xt: Tensor) -> Pair:
        """Take and return both branches as (batch, frequencies, time, channels)."""
        shapes = x.shape, xt.shape
        where, where_t = self._positions(x.shape[1], x.shape[2], xt.shape[2])
        x, xt = x.flatten(1, 2), xt.flatten(1, 2)
        if self._around:
            x, xt = linear(x, *self._around[0]), linear(xt, *self._around[1])
        x = functional.layer_norm(x, x.shape[2:], *self._norms[0], self._eps) + where
        xt = functional.layer_norm(xt, xt.shape[2:], *self._norms[1], self._eps) + where_t
        for layer, layer_t in self._layers:
            x, xt = layer(x, xt), layer_t(xt, x)
        if self._around:
            x, xt = linear(x, *self._around[2]), linear(xt, *self._around[3])
        return x.view(shapes[0]), xt.view(shapes[1])

    def _positions(self, frequencies: int, time: int, samples: int) -> tuple[Tensor, ...]:
        key = (frequencies, time, samples)
        if key not in self._known:
            plane: Tensor = create_2d_sin_embedding(  # type: ignore[no-untyped-call]
                self._width, frequencies, time, "cpu", self._period
            )
            line = create_sin_embedding(samples, self._width, max_period=self._period)
            both = plane.permute(0, 2, 3, 1).flatten(1, 2), line.transpose(0, 1)
            self._known[key] = tuple((self._weight * place).to(self._dtype) for place in both)
        return self._known[key]
