"""One block of the diffusion transformer: what diffusers' ``AceStepTransformerBlock`` computes, in fewer steps.

Its layers are called as they are, so that LoRAs act on them. Written out is what lies between: norms, rotary positions
and gates take a few kernels each instead of a dozen, and local attention looks at the neighbourhood of a token only,
where a mask over all pairs of tokens grows with the square of a song.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional


class Layout(NamedTuple):
    """What only depends on the number of tokens."""

    cos: torch.Tensor
    sin: torch.Tensor
    """(tokens, 1, head size); the first half of ``sin`` is negated."""
    near: torch.Tensor
    """Which tokens a layer of local attention sees: (1, 1, tokens, tokens); or, of a long song, which of the keys of
    its own stretch and of both neighbours each query of a stretch sees, (stretches, 1, window, 3 windows)."""


def layout_of(tokens: int, window: int, head_dim: int, theta: float, like: torch.Tensor) -> Layout:
    """Return the layout of so many tokens, on the device of ``like`` and in its floats."""
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    place = torch.arange(tokens, device=like.device)
    rotary: Any = get_1d_rotary_pos_embed  # its annotation leaves out the tensors that it takes
    cos, sin = rotary(head_dim, place.float(), theta=theta, use_real=True, repeat_interleave_real=False)
    sin[:, : head_dim // 2] *= -1.0
    if tokens <= 3 * window:
        near = ((place[:, None] - place[None, :]).abs() <= window)[None, None]
    else:
        near = _stretches(tokens, window, like.device)
    return Layout(cos[:, None].to(like.dtype), sin[:, None].to(like.dtype), near)


def _stretches(tokens: int, window: int, device: torch.device) -> torch.Tensor:
    count = -(-tokens // window)
    query = torch.arange(window, device=device)[:, None]
    key = torch.arange(3 * window, device=device)[None, :] - window
    place = key + window * torch.arange(count, device=device)[:, None, None]
    seen = ((query - key).abs() <= window) & (place >= 0) & (place < tokens)
    beyond = query + window * torch.arange(count, device=device)[:, None, None] >= tokens
    return (seen | beyond)[:, None]  # what is beyond the end sees anything: its results are cut off


def block(
    layer: Any,
    hidden: torch.Tensor,
    table: torch.Tensor,
    layout: Layout,
    near: torch.Tensor | None,
    words: torch.Tensor,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Return ``hidden``, (rows, tokens, width), after one block.

    ``table`` is what the timestep says, (rows, 6, width); ``near`` the layout's, for all rows, of a layer of local
    attention, else None; ``words`` (rows, n, width) and ``mask`` (rows, 1, 1, n), None when all of them count.
    """
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = (layer.scale_shift_table + table).chunk(6, dim=1)
    x = torch.addcmul(shift, normed(layer.self_attn_norm, hidden), 1 + scale)
    hidden = torch.addcmul(hidden, _to_itself(layer.self_attn, x, layout, near), gate)
    hidden = hidden + _to_words(layer.cross_attn, normed(layer.cross_attn_norm, hidden), words, mask)
    x = torch.addcmul(mlp_shift, normed(layer.mlp_norm, hidden), 1 + mlp_scale)
    x = functional.silu(layer.mlp.gate_proj(x), inplace=True).mul_(layer.mlp.up_proj(x))
    return torch.addcmul(hidden, layer.mlp.down_proj(x), mlp_gate)


def normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Apply one of diffusers' RMS norms."""
    return functional.rms_norm(x, norm.dim, norm.weight, norm.eps)


def _to_itself(attn: Any, x: torch.Tensor, layout: Layout, near: torch.Tensor | None) -> torch.Tensor:
    query = _turned(normed(attn.norm_q, _heads(attn.to_q(x), attn.heads)), layout).transpose(1, 2)
    key = _turned(normed(attn.norm_k, _heads(attn.to_k(x), attn.kv_heads)), layout).transpose(1, 2)
    value = _heads(attn.to_v(x), attn.kv_heads).transpose(1, 2)
    if near is None or near.shape[-1] == key.shape[2]:
        seen = _attention(attn, query, key, value, near)
    else:
        seen = _nearby(attn, query, key, value, near)
    out: torch.Tensor = attn.to_out[0](seen.transpose(1, 2).flatten(2))
    return out


def _to_words(attn: Any, x: torch.Tensor, words: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    query = normed(attn.norm_q, _heads(attn.to_q(x), attn.heads)).transpose(1, 2)
    key = normed(attn.norm_k, _heads(attn.to_k(words), attn.kv_heads)).transpose(1, 2)
    value = _heads(attn.to_v(words), attn.kv_heads).transpose(1, 2)
    out: torch.Tensor = attn.to_out[0](_attention(attn, query, key, value, mask).transpose(1, 2).flatten(2))
    return out


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.view(*x.shape[:-1], heads, -1)


def _turned(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Turn (rows, tokens, heads, head size) by the tokens' positions."""
    return torch.addcmul(x * layout.cos, x.roll(x.shape[-1] // 2, -1), layout.sin)


def _attention(
    attn: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """All are (rows, heads, n, head size), with fewer heads of keys and values than of queries."""
    fewer = key.shape[1] != query.shape[1]
    if fewer and mask is not None and query.device.type == "cuda":  # its kernel with masks has no shared heads
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
        fewer = False
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=attn.scaling, enable_gqa=fewer
    )


def _nearby(attn: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Attend stretch by stretch, each to itself and to both its neighbours."""
    rows, heads, tokens, size = query.shape
    window = near.shape[-2]
    padding = -tokens % window
    queries = functional.pad(query, (0, 0, 0, padding)).reshape(rows, heads, -1, window, size)
    keys, values = (
        functional.pad(x, (0, 0, window, window + padding))
        .unfold(2, 3 * window, window)
        .permute(0, 2, 1, 4, 3)
        .flatten(0, 1)
        for x in (key, value)
    )
    seen = _attention(attn, queries.transpose(1, 2).flatten(0, 1), keys, values, near)
    return seen.view(rows, -1, heads, window, size).transpose(1, 2).flatten(2, 3)[:, :, :tokens]
