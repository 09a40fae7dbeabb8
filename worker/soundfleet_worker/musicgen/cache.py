"""Keys and values of all slots, in tensors that are allocated once and never move between two changes of size.

What lies behind a slot's length is never read: a new piece takes a slot over without clearing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

GUIDED = 2
"""Rows of a slot: with the prompt, and without it."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What decides the size of the caches."""

    layers: int
    heads: int
    head_width: int
    positions: int
    """Of tokens, and of the prompt where it stands before them."""
    text: int
    """Tokens of a prompt that is attended to apart; 0 in the melody models."""
    dtype: torch.dtype

    def nbytes(self, slots: int) -> int:
        """Of the caches of so many slots."""
        positions = GUIDED * self.positions + self.text
        return 2 * self.layers * slots * positions * self.heads * self.head_width * self.dtype.itemsize


class Cache:
    """Per layer keys and values of (slots, 2, heads, positions, head width), and of the prompt without the 2."""

    def __init__(self, shape: CacheShape, slots: int, device: torch.device) -> None:
        self.shape = shape
        self.slots = slots
        self.device = device
        self.moves = 0
        """Counts the tensors that were replaced: whoever keeps their addresses looks here first."""
        own = (GUIDED, shape.heads, shape.positions, shape.head_width)
        text = (shape.heads, shape.text, shape.head_width)
        self.keys, self.values = self._make(own), self._make(own)
        self.text_keys, self.text_values = self._make(text), self._make(text)

    def _make(self, of_a_slot: tuple[int, ...]) -> list[torch.Tensor]:
        """A GPU's kernels read masked positions, too, which therefore must be numbers; a CPU's do not.

        On a CPU memory that nobody has touched yet is not really taken.
        """
        make = torch.empty if self.device.type == "cpu" else torch.zeros
        size = (self.slots, *of_a_slot)
        return [make(size, dtype=self.shape.dtype, device=self.device) for _ in range(self.shape.layers)]

    @property
    def nbytes(self) -> int:
        """What the tensors take, or will have taken when every slot was used to its end."""
        return self.shape.nbytes(self.slots)

    def shrink(self, slots: int, moved: Mapping[int, int]) -> None:
        """Give memory back: ``moved`` says where the occupied slots go. It takes no more than one tensor on the way.

        When even that fails, the tensors that keep the memory of all slots do as well.
        """
        for tensor in self._tensors():
            for source, target in moved.items():
                if source != target:
                    tensor[target].copy_(tensor[source])

        def smaller(tensor: torch.Tensor) -> torch.Tensor:
            try:
                return tensor[:slots].clone()
            except (MemoryError, RuntimeError):  # torch's own error of a CPU is a RuntimeError, a GPU's one of its kind
                return tensor[:slots]

        self.slots = slots
        self._resize(smaller)

    def grow(self, slots: int) -> None:
        """Make room for more slots; when memory runs out on the way, there are as many as before."""

        def larger(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.shape[0] >= slots:
                return tensor
            make = torch.empty if self.device.type == "cpu" else torch.zeros
            grown = make((slots, *tensor.shape[1:]), dtype=tensor.dtype, device=self.device)
            grown[: tensor.shape[0]].copy_(tensor)
            return grown

        self._resize(larger)
        self.slots = slots

    def _resize(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        for tensors in (self.keys, self.values, self.text_keys, self.text_values):
            for index, tensor in enumerate(tensors):
                tensors[index] = change(tensor)
                self.moves += 1

    def _tensors(self) -> Iterator[torch.Tensor]:
        for tensors in (self.keys, self.values, self.text_keys, self.text_values):
            yield from tensors

    def clear(self, slot: int) -> None:
        """Overwrite a slot with zeros: one whose numbers went wrong."""
        for tensor in self._tensors():
            tensor[slot].zero_()
