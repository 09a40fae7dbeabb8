"""The decoder's weights, taken out of transformers' modules and laid out for the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .linear import Activation, Linear, linear


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer norm, always in float32."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    @classmethod
    def of(cls, module: nn.LayerNorm, device: torch.device) -> Norm:
        """Copy a module's."""
        weight, bias = (p.detach().to(device, torch.float32).clone() for p in (module.weight, module.bias))
        return cls(weight, bias, module.eps)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(rows, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True, slots=True)
class Cross:
    """The attention of a layer to the prompt."""

    norm: Norm
    query: Linear
    key_value: Linear
    out: Linear


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the decoder."""

    norm: Norm
    query_key_value: Linear
    out: Linear
    cross: Cross | None
    """None in the melody models, whose prompt stands before the tokens."""
    last_norm: Norm
    up: Linear
    """With the activation."""
    down: Linear


@dataclass(frozen=True, slots=True)
class Weights:
    """The decoder: its layers, embeddings and heads."""

    layers: tuple[Layer, ...]
    embeddings: torch.Tensor
    """(codebooks, vocabulary + 1, width), float32."""
    norm: Norm
    heads: Linear
    """To (codebooks * vocabulary), float32."""
    heads_per_layer: int
    width: int
    codebooks: int
    vocabulary: int
    dtype: torch.dtype
    device: torch.device
    parameters: int

    @property
    def nbytes(self) -> int:
        """Of all matrices."""
        return self.parameters * self.dtype.itemsize


def take(model: Any, device: torch.device, dtype: torch.dtype) -> Weights:
    """Move the decoder out of a loaded model: its own modules are emptied layer by layer, to hold nothing twice."""
    decoder = model.decoder.model.decoder
    config = model.config.decoder
    parameters = sum(p.numel() for p in model.decoder.parameters())
    layers = []
    activation = _activation(config.activation_function)
    for index, module in enumerate(decoder.layers):
        layers.append(_layer(module, activation, device, dtype))
        decoder.layers[index] = nn.Identity()
    weights = Weights(
        layers=tuple(layers),
        embeddings=torch.stack([e.weight.detach() for e in decoder.embed_tokens]).to(device, torch.float32),
        norm=Norm.of(decoder.layer_norm, device),
        heads=linear(list(model.decoder.lm_heads), device, torch.float32),
        heads_per_layer=config.num_attention_heads,
        width=config.hidden_size,
        codebooks=config.num_codebooks,
        vocabulary=config.vocab_size,
        dtype=dtype,
        device=device,
        parameters=parameters,
    )
    model.decoder = None
    return weights


def _layer(module: Any, activation: Activation, device: torch.device, dtype: torch.dtype) -> Layer:
    own = module.self_attn

    def matrix(*modules: nn.Linear) -> Linear:
        return linear(modules, device, dtype)

    return Layer(
        norm=Norm.of(module.self_attn_layer_norm, device),
        query_key_value=matrix(own.q_proj, own.k_proj, own.v_proj),
        out=matrix(own.out_proj),
        cross=_cross(module, matrix, device) if hasattr(module, "encoder_attn") else None,
        last_norm=Norm.of(module.final_layer_norm, device),
        up=linear([module.fc1], device, dtype, activation),
        down=matrix(module.fc2),
    )


def _cross(module: Any, matrix: Callable[..., Linear], device: torch.device) -> Cross:
    attention = module.encoder_attn
    return Cross(
        norm=Norm.of(module.encoder_attn_layer_norm, device),
        query=matrix(attention.q_proj),
        key_value=matrix(attention.k_proj, attention.v_proj),
        out=matrix(attention.out_proj),
    )


def _activation(name: str) -> Activation:
    from transformers.activations import ACT2FN

    function: Activation = functional.gelu if name == "gelu" else ACT2FN[name]
    return function
