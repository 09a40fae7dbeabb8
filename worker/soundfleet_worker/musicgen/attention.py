"""Three ways to attend: a token of every slot at its own exact length, the same in fixed shapes, and many tokens of
one slot at once.

The exact way reads no more than each slot holds and costs nothing for an empty one: right for a CPU, where reading is
what takes the time. The fixed way has shapes that do not depend on the lengths, so that a CUDA graph can hold it. What
a row attends to, and in which order it is added up, depends in both on its own slot alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from .cache import GUIDED, Cache


class Place(NamedTuple):
    """Where a slot stands."""

    slot: int
    position: int
    """Of its current token in the cache."""
    text: int
    """Tokens of its prompt."""
    guided: bool


class ExactAttention:
    """One token of each of the given slots; rows are (2, slots), the guided half first."""

    def __init__(self, cache: Cache, places: Sequence[Place], device: torch.device) -> None:
        self._cache = cache
        self._slots = torch.tensor([place.slot for place in places], device=device)
        self._positions = torch.tensor([place.position for place in places], device=device)
        self._own = _neighbours(places, lambda place: (place.position, place.guided))
        self._text = _neighbours(places, lambda place: place.text)
        self.guided_rows = cache.slots

    def own(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend length by length; rows of other slots give zeros."""
        shape = self._cache.shape
        query, key, value = (part.view(GUIDED, -1, shape.heads, shape.head_width) for part in (query, key, value))
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._slots, :, :, self._positions] = key[:, self._slots].transpose(0, 1)
        values[self._slots, :, :, self._positions] = value[:, self._slots].transpose(0, 1)
        heard = torch.zeros_like(query)
        for first, last, place in self._own:
            rows, end = GUIDED if place.guided else 1, place.position + 1
            asked = query[:rows, first:last].transpose(0, 1).flatten(0, 1)[:, :, None]
            seen, taken = (part[first:last, :rows, :, :end].flatten(0, 1) for part in (keys, values))
            told = functional.scaled_dot_product_attention(asked, seen, taken)
            heard[:rows, first:last] = told.view(last - first, rows, shape.heads, shape.head_width).transpose(0, 1)
        return heard.view(-1, shape.heads * shape.head_width)

    def text(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """Attend to as much prompt as each slot has."""
        shape = self._cache.shape
        query = query.view(-1, shape.heads, 1, shape.head_width)
        keys, values = self._cache.text_keys[layer], self._cache.text_values[layer]
        heard = torch.zeros_like(query)
        for first, last, place in self._text:
            seen, taken = (part[first:last, :, : place.text] for part in (keys, values))
            heard[first:last] = functional.scaled_dot_product_attention(query[first:last], seen, taken)
        return heard.view(-1, shape.heads * shape.head_width)


def _neighbours(places: Sequence[Place], same: Callable[[Place], object]) -> list[tuple[int, int, Place]]:
    """Put neighbouring slots that are alike into one call: (first, last + 1, one of them).

    A row's sums are its own, however many rows a call has. Where the prompt does not count, a slot stays by itself:
    its rows do not lie side by side.
    """
    groups: list[tuple[int, int, Place]] = []
    for place in sorted(places):
        if groups and place.guided and groups[-1][1] == place.slot and same(groups[-1][2]) == same(place):
            groups[-1] = (groups[-1][0], place.slot + 1, place)
        else:
            groups.append((place.slot, place.slot + 1, place))
    return groups


class FixedAttention:
    """One token of every slot, up to a fixed number of positions; where they stand is read from tensors."""

    def __init__(self, cache: Cache, reach: int, positions: torch.Tensor, texts: torch.Tensor) -> None:
        """``positions`` and ``texts`` are (slots) on the device; ``reach`` is how many positions are looked at."""
        self._cache, self._reach, self._positions = cache, reach, positions
        self._slots = torch.arange(cache.slots, device=cache.device)
        self._own = self._mask(reach, positions + 1).repeat_interleave(GUIDED, dim=0)
        self._text = self._mask(cache.shape.text, texts.clamp(min=1))
        self.guided_rows = cache.slots

    def own(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend with what lies behind each slot's position masked out."""
        shape, slots = self._cache.shape, self._cache.slots
        query, key, value = (
            part.view(GUIDED, slots, shape.heads, shape.head_width).transpose(0, 1) for part in (query, key, value)
        )
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._slots, :, :, self._positions] = key
        values[self._slots, :, :, self._positions] = value
        seen, taken = (part[:slots, :, :, : self._reach].flatten(0, 1) for part in (keys, values))
        asked = query.flatten(0, 1)[:, :, None]
        heard = functional.scaled_dot_product_attention(asked, seen, taken, attn_mask=self._own)
        return heard.view(slots, GUIDED, -1).transpose(0, 1).reshape(GUIDED * slots, -1)

    def text(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """Attend with what lies behind each slot's prompt masked out."""
        shape, slots = self._cache.shape, self._cache.slots
        query = query.view(slots, shape.heads, 1, shape.head_width)
        keys, values = self._cache.text_keys[layer][:slots], self._cache.text_values[layer][:slots]
        heard = functional.scaled_dot_product_attention(query, keys, values, attn_mask=self._text)
        return heard.reshape(-1, shape.heads * shape.head_width)

    def _mask(self, reach: int, lengths: torch.Tensor) -> torch.Tensor:
        """What is added to the scores, (slots, heads, 1, reach): made once a token, for all layers."""
        cache = self._cache
        outside = torch.arange(reach, device=cache.device) >= lengths[:, None]
        mask = torch.zeros(outside.shape, dtype=cache.shape.dtype, device=cache.device).masked_fill(outside, -torch.inf)
        return mask[:, None, None].expand(-1, cache.shape.heads, 1, -1)


class FillAttention:
    """Consecutive positions of one slot; rows are (2 or 1, positions)."""

    def __init__(self, cache: Cache, place: Place, count: int) -> None:
        """``place.position`` is the first of ``count`` positions."""
        self._cache, self._place, self._count = cache, place, count
        self._halves = GUIDED if place.guided else 1
        end = place.position + count
        self._mask = torch.ones(count, end, dtype=torch.bool, device=cache.device).tril(place.position)
        self.guided_rows = count

    def own(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend causally to what the slot holds and to the new positions."""
        shape, (slot, start, _, _) = self._cache.shape, self._place
        size = (self._halves, self._count, shape.heads, shape.head_width)
        query, key, value = (part.view(size).transpose(1, 2) for part in (query, key, value))
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        end = start + self._count
        keys[slot, : self._halves, :, start:end] = key
        values[slot, : self._halves, :, start:end] = value
        seen, taken = (part[slot, : self._halves, :, :end] for part in (keys, values))
        heard = functional.scaled_dot_product_attention(query, seen, taken, attn_mask=self._mask)
        return heard.transpose(1, 2).reshape(-1, shape.heads * shape.head_width)

    def text(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """Attend to the slot's prompt."""
        shape, (slot, _, text, _) = self._cache.shape, self._place
        query = query.view(1, self._count, shape.heads, shape.head_width).transpose(1, 2)
        seen, taken = (part[layer][slot, None, :, :text] for part in (self._cache.text_keys, self._cache.text_values))
        heard = functional.scaled_dot_product_attention(query, seen, taken)
        return heard.transpose(1, 2).reshape(-1, shape.heads * shape.head_width)
