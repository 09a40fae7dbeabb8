"""Checkpoints of a training run: written whole or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

State = dict[str, torch.Tensor]


@dataclass(slots=True)
class Checkpoint:
    """Everything that a run needs to go on, and the averaged weights that it is for."""

    shape: dict[str, Any]
    """Keyword arguments of HTDemucs."""
    model: State
    average: State
    optimizer: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    elapsed_sec: float = 0.0
    """Training time so far, over all runs."""

    def save(self, path: Path) -> None:
        """Write the checkpoint atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save({name: getattr(self, name) for name in self.__slots__}, partial)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint; only plain tensors and values are accepted."""
        return cls(**torch.load(path, map_location="cpu", weights_only=True))
