"""Where a run's estimates add up: one float32 tensor (2, samples) per stem, on the device.

On the CPU the tensors are memory-mapped ``.npy`` files in the run's scratch, so that the result needs no further copy.
On a GPU they leave the device once, at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..backends.scratch import reserve
from .stems import blocks
from .windows import Window


class Accumulator:
    """Overlap-add of one run. ``gains`` of a sub-model say what each of its sources counts; 0 is left out."""

    def __init__(
        self,
        stems: Sequence[str],
        samples: int,
        gains: Mapping[int, Sequence[float]],
        scratch: Path,
        device: torch.device,
    ) -> None:
        self._samples, self._gains = samples, gains
        self._scratch, self._device = scratch, device
        self._files: dict[str, NDArray[np.float32]] = {}
        needed = {index for row in gains.values() for index, gain in enumerate(row) if gain}
        self._stems = tuple(stems)
        self._tensors = {stem: self.room(stem) for index, stem in enumerate(stems) if index in needed}

    def room(self, stem: str) -> torch.Tensor:
        """Return zeros for one more stem of this run."""
        if self._device.type != "cpu":
            return torch.zeros((2, self._samples), dtype=torch.float32, device=self._device)
        self._files[stem] = reserve(self._scratch / f"{stem}.npy", 2, self._samples)
        return torch.from_numpy(self._files[stem])

    def add(self, window: Window, output: torch.Tensor, blend: torch.Tensor, level: float) -> None:
        """Add a model's output, (sources, 2, window length), times ``level``, where the window says.

        Makes no temporaries, and does not wait for the device.
        """
        first, last = max(window.offset, 0), min(window.offset + window.kept, self._samples)
        if first >= last:  # a shifted pass may begin with a segment that lies before the mix
            return
        skip = first - window.offset
        inside = slice(window.trim + skip, window.trim + skip + last - first)
        weights = blend[skip : skip + last - first]
        for source, (stem, gain) in enumerate(zip(self._stems, self._gains[window.model], strict=True)):
            if gain and stem in self._tensors:
                self._tensors[stem][:, first:last].addcmul_(output[source, :, inside], weights, value=gain * level)

    def take(self, offset: float) -> dict[str, torch.Tensor]:
        """Return the estimates by stem, with ``offset`` added to every sample; callable once."""
        taken, self._tensors = self._tensors, {}
        for tensor in taken.values():
            tensor.add_(offset)
        return taken

    def keep(self, stems: Mapping[str, torch.Tensor], names: Collection[str]) -> dict[str, torch.Tensor]:
        """Return the named ones of these stems, and remove the files of all others."""
        for name in set(self._files) - set(names):
            del self._files[name]
            (self._scratch / f"{name}.npy").unlink(missing_ok=True)
        return {name: stem for name, stem in stems.items() if name in names}

    def deliver(self, stems: Mapping[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
        """Return the stems as files in scratch."""
        return {name: self._files[name] if name in self._files else self._write(name, stems[name]) for name in stems}

    def _write(self, name: str, tensor: torch.Tensor) -> NDArray[np.float32]:
        """Copy a stem from the device, block by block into the mapped file."""
        audio = reserve(self._scratch / f"{name}.npy", 2, self._samples)
        target = torch.from_numpy(audio)
        for block in blocks(self._samples):
            target[:, block].copy_(tensor[:, block])
        return audio
