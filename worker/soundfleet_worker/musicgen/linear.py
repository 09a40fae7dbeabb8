"""Matrices as the decode loop wants them: in its floats, on its device, multiplied by what is fastest there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from ..backends.precision import packs
from .threads import Threads

Linear = Callable[[torch.Tensor], torch.Tensor]
"""Multiplies rows (n, inputs) to (n, outputs)."""
Activation = Callable[[torch.Tensor], torch.Tensor]


def linear(
    modules: Sequence[torch.nn.Linear], device: torch.device, dtype: torch.dtype, activation: Activation | None = None
) -> Linear:
    """Make one matrix of those that see the same input, their outputs one after the other."""
    weight = torch.cat([module.weight.detach() for module in modules]).to(device, dtype).contiguous()
    multiply = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if device.type == "cpu" and multiply is not None and packs(dtype):
        return _streaming(weight, multiply, activation)
    if activation is None:
        return lambda rows: functional.linear(rows, weight)
    return lambda rows: activation(functional.linear(rows, weight))


def _streaming(weight: torch.Tensor, multiply: Callable[..., torch.Tensor], activation: Activation | None) -> Linear:
    """Multiply by oneDNN, with the matrix in the rows' place and the few rows in the matrix's.

    oneDNN puts what stands in the matrix's place into its kernel's order at every call, and reads the other as it
    lies: so the large one is read once, at nearly the speed of memory. What comes out lies column by column.
    """
    threads = Threads.all()
    fused = "gelu" if activation is functional.gelu else "none"

    def apply(rows: torch.Tensor) -> torch.Tensor:
        with threads:
            return multiply(weight, rows, None, fused, [], "none").t()

    if activation is None or fused != "none":
        return apply
    return lambda rows: activation(apply(rows))
