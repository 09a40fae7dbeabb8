"""The shape of `htdemucs_mini`: the real HTDemucs class with small numbers."""

from __future__ import annotations

from typing import Any

from demucs.htdemucs import HTDemucs
from torch import nn

from ..sketch import STEMS

SAMPLE_RATE = 44_100
SEGMENT_SEC = 3

MINI: dict[str, Any] = {
    "sources": list(STEMS),
    "channels": 16,
    "nfft": 4096,
    "depth": 4,
    "bottom_channels": 96,
    "t_layers": 2,
    "t_heads": 4,
    "dconv_mode": 1,
    "samplerate": SAMPLE_RATE,
    "segment": SEGMENT_SEC,
}
"""Keyword arguments of HTDemucs; everything else keeps its default."""


def build(shape: dict[str, Any] | None = None) -> HTDemucs:
    """Return an untrained model of the given shape (default: `MINI`)."""
    model: HTDemucs = HTDemucs(**(MINI if shape is None else shape))
    return model


def parameters(model: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
