"""Where a run's estimates add up: one float32 tensor (2, samples) per stem, on the device.

On the CPU the tensors are memory-mapped ``.npy`` files in the run's scratch, so that the result needs no further copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.scratch import reserve
from .stems import Audio

if TYPE_CHECKING:
    import torch

    from .windows import Window


class Accumulator:
    """Overlap-add of one run. ``gains`` of a sub-model say what each of its sources counts; 0 is left out."""

    def __init__(
        self,
        stems: Sequence[str],
        samples: int,
        gains: Mapping[int, Sequence[float]],
        scratch: Path,
        device: str,
    ) -> None:
        import torch

        self._samples = samples
        self._gains = gains
        self._files: dict[str, Audio] = {}
        self._tensors: list[torch.Tensor | None] = []
        needed = {index for row in gains.values() for index, gain in enumerate(row) if gain}
        for index, stem in enumerate(stems):
            if index not in needed:
                self._tensors.append(None)
            elif device == "cpu":
                self._files[stem] = reserve(scratch / f"{stem}.npy", 2, samples)
                self._tensors.append(torch.from_numpy(self._files[stem]))
            else:
                self._tensors.append(torch.zeros((2, samples), dtype=torch.float32, device=device))
        self._stems = tuple(stems)

    def add(self, window: Window, output: torch.Tensor, blend: torch.Tensor) -> None:
        """Add a model's output, (sources, 2, window length), where the window says; makes no temporaries."""
        first, last = max(window.offset, 0), min(window.offset + window.kept, self._samples)
        if first >= last:  # a shifted pass may begin with a segment that lies before the mix
            return
        skip = first - window.offset
        inside = slice(window.trim + skip, window.trim + skip + last - first)
        weights = blend[skip : skip + last - first]
        for source, (tensor, gain) in enumerate(zip(self._tensors, self._gains[window.model], strict=True)):
            if tensor is not None and gain:
                tensor[:, first:last].addcmul_(output[source, :, inside], weights, value=gain)

    def take(self, mean: float, std: float) -> dict[str, Audio]:
        """Return the estimates by stem in the mix's own level; callable once."""
        taken = {}
        for stem, tensor in zip(self._stems, self._tensors, strict=True):
            if tensor is not None:
                tensor.mul_(std).add_(mean)
                taken[stem] = self._files[stem] if stem in self._files else tensor.cpu().numpy()
        self._tensors.clear()
        return taken
