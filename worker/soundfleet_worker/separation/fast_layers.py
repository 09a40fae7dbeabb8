"""The layers of HTDemucs' two branches for inference, on (batch, frequencies, time, channels); of the waveform
branch, frequencies is 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .fast_ops import Convolution, Points, gate_of


class Residual:
    """One layer of a ``DConv``: down to few channels, normalised, and up again through a gate.

    The second normalisation is over all that comes out of a product with a small matrix, so its mean and variance
    follow from the first two moments of the few channels that go in. With them it becomes a part of that matrix: the
    largest tensors of the model are neither normalised nor read for statistics. LayerScale goes into the matrix too.
    """

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        down, norm, _, up, out_norm, _, scale = layer
        self._down = Convolution(down, dtype)
        self._norm = (norm.weight.detach().float(), norm.bias.detach().float(), norm.eps)
        self._out_eps = out_norm.eps
        weight, bias = up.weight.detach()[:, :, 0].double(), up.bias.detach().double()
        self._mean_of = (weight.mean(0).float(), float(bias.mean()))
        """Of the outputs, as a linear function of the inputs' mean."""
        count = len(weight)
        self._square_of = (
            (weight.T @ weight / count).float(),
            (2 * weight.T @ bias / count).float(),
            float(bias @ bias) / count,
        )
        """The outputs' mean square, as a quadratic function of the inputs."""
        gain, offset = out_norm.weight.detach().double(), out_norm.bias.detach().double()
        scales = torch.cat([scale.scale.detach().double(), torch.ones(count // 2, dtype=torch.float64)])
        matrix = torch.cat([weight * gain[:, None], (bias * gain)[:, None], -gain[:, None]], 1)
        self._points = Points(matrix * scales[:, None], offset * scales, dtype)

    def __call__(self, y: Tensor) -> Tensor:
        """Add the layer's output to ``y``, in place; each frequency is normalised by itself."""
        rows, width = y.shape[0] * y.shape[1], y.shape[2]
        hidden = self._down(y).reshape(rows, width, -1).float()
        weight, bias, eps = self._norm
        hidden = functional.gelu(torch.addcmul(bias, functional.layer_norm(hidden, hidden.shape[1:], eps=eps), weight))
        mean, rate = self._moments(hidden)
        few = hidden.shape[2]
        inputs = torch.empty((rows, width, few + 2), dtype=y.dtype, device=y.device)
        inputs[:, :, :few] = hidden.mul_(rate[:, None, None])
        inputs[:, :, few] = rate[:, None]
        inputs[:, :, few + 1] = (mean * rate)[:, None]
        return y.add_(self._points(inputs.view(*y.shape[:3], few + 2)))

    def _moments(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and reciprocal deviation of the second product's outputs, one of each per row."""
        mean_in = hidden.mean(1)
        products = torch.bmm(hidden.transpose(1, 2), hidden) / hidden.shape[1]
        quadratic, linear, constant = self._square_of
        square = (products * quadratic).sum((1, 2)) + mean_in @ linear + constant
        mean = mean_in @ self._mean_of[0] + self._mean_of[1]
        return mean, (square - mean * mean + self._out_eps).clamp_min_(self._out_eps).rsqrt_()


def residuals(layer: Any, dtype: torch.dtype) -> list[Residual]:
    """Return the layers of a ``DConv``, none where there is none."""
    return [Residual(part, dtype) for part in layer.dconv.layers] if layer.dconv is not None else []


class Encoder:
    """An ``HEncLayer`` without normalisation."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        self._stride = 1 if layer.freq else layer.stride
        self._conv = Convolution(layer.conv, dtype, "gelu")
        self._residuals = residuals(layer, dtype)
        self._gate = gate_of(layer.rewrite, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        if over := x.shape[2] % self._stride:
            x = functional.pad(x, (0, 0, 0, self._stride - over))
        y = self._conv(x)
        for residual in self._residuals:
            y = residual(y)
        return self._gate(y)


class Decoder:
    """An ``HDecLayer`` without normalisation."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        conv, self._last = layer.conv_tr, layer.last
        flat = conv.weight.dim() == 3
        self._gate = gate_of(layer.rewrite, dtype)
        self._residuals = residuals(layer, dtype)
        weight = conv.weight.detach()
        self._weight = (weight[:, :, None] if flat else weight).to(dtype, memory_format=torch.channels_last)
        self._bias = conv.bias.detach().to(dtype)
        self._stride = (1, *conv.stride) if flat else conv.stride
        self._padding = (0, layer.pad) if flat else (layer.pad, 0)
        """Padding of a transposed convolution takes away what the layer would cut off afterwards."""

    def __call__(self, x: Tensor, skip: Tensor, length: int) -> Tensor:
        """Return ``length`` samples along the time."""
        y = self._gate(x + skip)
        for residual in self._residuals:
            y = residual(y)
        z = functional.conv_transpose2d(y.permute(0, 3, 1, 2), self._weight, self._bias, self._stride, self._padding)
        z = z.permute(0, 2, 3, 1)[:, :, :length]
        return z if self._last else functional.gelu(z).contiguous()
