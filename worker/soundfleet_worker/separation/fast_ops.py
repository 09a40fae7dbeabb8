"""The few operations that the fast forward pass is made of, on audio whose channels lie last in memory.

oneDNN multiplies and applies an activation, or another tensor, while the result is still in the cache; torch offers
that to its compiler, and here it is called by name. Where it is missing the same is done in two steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def _is_fused() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    names = ("_linear_pointwise", "_convolution_pointwise")
    return all(hasattr(torch.ops.mkldnn, name) for name in names)


FUSED = _is_fused()
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "gelu": functional.gelu,
    "sigmoid": torch.sigmoid,
}
_ALGORITHM = {"none": "", "gelu": "none", "sigmoid": ""}
"""What oneDNN's entry wants to hear beside an activation's name: the exact GELU."""


def linear(x: Tensor, weight: Tensor, bias: Tensor, activation: str = "none") -> Tensor:
    """Return ``activation(x @ weight.T + bias)``."""
    if FUSED:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], _ALGORITHM[activation])
        return out
    return _ACTIVATIONS[activation](functional.linear(x, weight, bias))


def linear_then(how: str, x: Tensor, other: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``x @ weight.T + bias``, times (``mul``) or plus (``add``) another tensor of that shape."""
    if FUSED:
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, how)
        return out
    y = functional.linear(x, weight, bias)
    return y.mul_(other) if how == "mul" else y.add_(other)


class Convolution:
    """A convolution over (batch, height, width, channels); one that was over time alone has height 1."""

    def __init__(self, conv: Any, dtype: torch.dtype, activation: str = "none", rows: slice = slice(None)) -> None:
        """``rows`` are the output channels that are wanted."""
        flat = conv.weight.dim() == 3
        weight = conv.weight.detach()[rows]
        self._weight = (weight[:, :, None] if flat else weight).to(dtype, memory_format=torch.channels_last)
        self._bias = conv.bias.detach()[rows].to(dtype)
        self._stride = [1, *conv.stride] if flat else [*conv.stride]
        self._padding = [0, *conv.padding] if flat else [*conv.padding]
        self._dilation = [1, *conv.dilation] if flat else [*conv.dilation]
        self._activation = activation

    def __call__(self, x: Tensor) -> Tensor:
        """Return the activated convolution."""
        x, act = x.permute(0, 3, 1, 2), self._activation
        how: tuple[Any, ...] = (self._padding, self._stride, self._dilation, 1)
        if FUSED and act != "none":
            y: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self._weight, self._bias, *how, act, [], _ALGORITHM[act]
            )
        else:
            y = functional.conv2d(x, self._weight, self._bias, self._stride, self._padding, self._dilation)
            y = _ACTIVATIONS[act](y)
        return y.permute(0, 2, 3, 1)

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the convolution times another tensor."""
        x, other = x.permute(0, 3, 1, 2), other.permute(0, 3, 1, 2)
        if FUSED:
            how: tuple[Any, ...] = (self._padding, self._stride, self._dilation, 1, "mul", 1.0, None, [], None)
            y: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(x, other, self._weight, self._bias, *how)
        else:
            y = functional.conv2d(x, self._weight, self._bias, self._stride, self._padding, self._dilation).mul_(other)
        return y.permute(0, 2, 3, 1)


class Gate:
    """A convolution and its gated linear unit: the one half of its outputs times the sigmoid of the other."""

    def __init__(self, conv: Any, dtype: torch.dtype) -> None:
        half = len(conv.weight) // 2
        self._value = Convolution(conv, dtype, rows=slice(half))
        self._gate = Convolution(conv, dtype, "sigmoid", rows=slice(half, None))

    def __call__(self, x: Tensor) -> Tensor:
        return self._value.times(x, self._gate(x))


class Points:
    """A gate whose convolution is one sample wide: two products of matrices."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        half = len(weight) // 2
        weight, bias = weight.to(dtype), bias.to(dtype)
        self._value = (weight[:half].contiguous(), bias[:half].contiguous())
        self._gate = (weight[half:].contiguous(), bias[half:].contiguous())

    def __call__(self, x: Tensor) -> Tensor:
        return linear_then("mul", x, linear(x, *self._gate, activation="sigmoid"), *self._value)


def gate_of(conv: Any, dtype: torch.dtype) -> Gate | Points:
    """Return the gate of a convolution of Demucs."""
    if all(size == 1 for size in conv.kernel_size):
        return Points(conv.weight.detach().flatten(1), conv.bias.detach(), dtype)
    return Gate(conv, dtype)
