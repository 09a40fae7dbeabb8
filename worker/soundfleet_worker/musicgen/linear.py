"""Matrices as the decode loop wants them: in its floats, on its device, on a CPU packed once for its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from ..backends.precision import packs

Linear = Callable[[torch.Tensor], torch.Tensor]
"""Multiplies rows (n, inputs) to (n, outputs)."""


def linear(modules: Sequence[torch.nn.Linear], device: torch.device, dtype: torch.dtype) -> Linear:
    """Make one matrix of those that see the same input, their outputs one after the other."""
    weight = torch.cat([module.weight.detach() for module in modules]).to(device, dtype)
    return pack(weight)


def pack(weight: torch.Tensor) -> Linear:
    """Return what multiplies by a matrix (outputs, inputs).

    On a CPU, torch puts the matrix into its kernel's order again at every call; packed once, 16 rows cost half.
    """
    if weight.device.type == "cpu" and packs(weight.dtype):
        multiply = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
        reorder = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
        if multiply is not None and reorder is not None:
            packed = reorder(weight.contiguous(), None)
            return lambda rows: multiply(rows, packed, None, "none", [], "")
    weight = weight.contiguous()
    return lambda rows: functional.linear(rows, weight)
