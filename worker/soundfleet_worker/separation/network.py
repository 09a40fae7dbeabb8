"""One sub-model of a bag as it computes on its device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from demucs.htdemucs import HTDemucs

from soundfleet_schemas import Precision

from ..backends.precision import DTYPES
from .fast_htdemucs import FastHTDemucs, is_known


class Network:
    """Separates windows. On a CPU a known HTDemucs is written out for inference; all else is Demucs' own module."""

    def __init__(self, model: Any, device: torch.device, precision: Precision) -> None:
        self._model = model
        self.fixed = isinstance(model, HTDemucs)
        """Whether windows have the length of the segment, whatever is kept of them."""
        self.channels = int(getattr(model, "channels", 0))
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self._device, self._dtype = device, DTYPES[precision]
        self._forward: Callable[[torch.Tensor], torch.Tensor]
        self.is_fast = device.type == "cpu" and is_known(model)
        if self.is_fast:
            self._model, self._forward = None, FastHTDemucs(model, self._dtype)
        else:
            self._forward = model.to(device).eval()

    @property
    def weight_bytes(self) -> int:
        """In the precision of the products; a module keeps its float32 weights and casts them in each launch."""
        narrow: int = self._dtype.itemsize * self.parameters
        return narrow if self.is_fast or self._dtype == torch.float32 else narrow + 4 * self.parameters

    def window_length(self, segment: int, kept: int) -> int:
        """Say how much it wants to see of a segment of which ``kept`` samples lie in the mix."""
        if self.fixed:
            return segment
        valid: Callable[[int], int] | None = getattr(self._model, "valid_length", None)
        return int(valid(kept)) if valid is not None else kept

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Separate (windows, 2, length) to float32 (windows, sources, 2, length)."""
        casts = not self.is_fast and self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=casts):
            return self._forward(windows).float()
