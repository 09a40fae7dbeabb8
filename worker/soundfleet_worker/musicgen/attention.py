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
from .threads import Threads

SHARED_OUT = 1 << 18
"""Numbers in the keys of a call from which on its work is worth more than waking the other threads."""


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

    def __init__(self, cache: Cache, places: Sequence[Place], threads: Threads) -> None:
        """``threads`` are for the calls that are worth it."""
        self._cache, self._threads = cache, threads
        self._slots = torch.tensor([place.slot for place in places])
        self._written = self._lines(torch.tensor([place.position for place in places]))
        self._own = _neighbours(places, lambda place: (place.position, place.guided))
        self._text = _neighbours(places, lambda place: place.text)
        shape = cache.shape
        self._heard = torch.zeros(cache.slots * GUIDED, shape.heads, 1, shape.head_width, dtype=shape.dtype)
        self._told = torch.zeros(cache.slots, shape.heads, 1, shape.head_width, dtype=shape.dtype)
        self.guided_rows = cache.slots

    def _lines(self, positions: torch.Tensor) -> torch.Tensor:
        """Where the slots' new keys lie, counted in keys: (slots * 2 * heads)."""
        shape = self._cache.shape
        rows = self._slots[:, None] * (GUIDED * shape.heads) + torch.arange(GUIDED * shape.heads)
        return (rows * shape.positions + positions[:, None]).flatten()

    def own(self, layer: int, mixed: torch.Tensor) -> torch.Tensor:
        """Attend length by length; rows of other slots get nothing."""
        shape, slots = self._cache.shape, self._cache.slots
        parts = mixed.view(GUIDED, slots, 3, shape.heads, shape.head_width).permute(2, 1, 0, 3, 4).contiguous()
        asked = parts[0].view(-1, shape.heads, 1, shape.head_width)
        caches = self._cache.keys[layer], self._cache.values[layer]
        for cache, part in zip(caches, parts[1:], strict=True):
            cache.view(-1, shape.head_width).index_copy_(0, self._written, part[self._slots].view(-1, shape.head_width))
        keys, values = (cache.view(-1, shape.heads, shape.positions, shape.head_width) for cache in caches)
        for first, last, place in self._own:
            start, end = first * GUIDED, place.position + 1
            stop = last * GUIDED if place.guided else start + 1
            self._heard[start:stop] = self._attend(asked[start:stop], keys[start:stop], values[start:stop], end)
        return self._heard.view(slots, GUIDED, -1).transpose(0, 1).reshape(GUIDED * slots, -1)

    def text(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """Attend to as much prompt as each slot has."""
        shape, slots = self._cache.shape, self._cache.slots
        query = query.contiguous().view(-1, shape.heads, 1, shape.head_width)
        keys, values = self._cache.text_keys[layer], self._cache.text_values[layer]
        for first, last, place in self._text:
            self._told[first:last] = self._attend(query[first:last], keys[first:last], values[first:last], place.text)
        return self._told.view(slots, -1)

    def _attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, end: int) -> torch.Tensor:
        """Attend to the positions before ``end``."""
        keys, values = keys[:, :, :end], values[:, :, :end]
        if keys.numel() < SHARED_OUT:
            return functional.scaled_dot_product_attention(query, keys, values)
        with self._threads:
            return functional.scaled_dot_product_attention(query, keys, values)


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

    def __init__(self, cache: Cache, reach: int, taken: int, positions: torch.Tensor, texts: torch.Tensor) -> None:
        """``positions`` and ``texts`` are (slots) on the device; ``reach`` is how many positions are looked at.

        The slots behind the first ``taken`` are free: their rows get nothing, and their caches are left alone.
        """
        self._cache, self._reach, self._taken = cache, reach, taken
        self._positions = positions[:taken]
        self._slots = torch.arange(taken, device=cache.device)
        lengths = self._positions + 1
        self._own = self._mask(reach, lengths[:, None].expand(-1, GUIDED).flatten())
        self._text = self._mask(cache.shape.text, texts[:taken].clamp(min=1))
        self.guided_rows = cache.slots

    def own(self, layer: int, mixed: torch.Tensor) -> torch.Tensor:
        """Attend with what lies behind each slot's position masked out."""
        shape, slots, taken = self._cache.shape, self._cache.slots, self._taken
        parts = mixed.view(GUIDED, slots, 3, shape.heads, shape.head_width)[:, :taken].transpose(0, 1)
        query, key, value = parts.contiguous().unbind(2)
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._slots, :, :, self._positions] = key
        values[self._slots, :, :, self._positions] = value
        seen, told = (part[:taken, :, :, : self._reach].flatten(0, 1) for part in (keys, values))
        asked = query.flatten(0, 1)[:, :, None]
        heard = functional.scaled_dot_product_attention(asked, seen, told, attn_mask=self._own)
        return self._spread(heard.view(taken, GUIDED, -1).transpose(0, 1)).reshape(GUIDED * slots, -1)

    def text(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """Attend with what lies behind each slot's prompt masked out."""
        shape, slots, taken = self._cache.shape, self._cache.slots, self._taken
        query = query.contiguous().view(slots, shape.heads, 1, shape.head_width)[:taken]
        keys, values = self._cache.text_keys[layer][:taken], self._cache.text_values[layer][:taken]
        heard = functional.scaled_dot_product_attention(query, keys, values, attn_mask=self._text)
        return self._spread(heard.reshape(1, taken, -1))[0]

    def _spread(self, heard: torch.Tensor) -> torch.Tensor:
        """Put the rows of the slots that are taken, (halves, taken, width), among those of all slots."""
        if self._taken == self._cache.slots:
            return heard
        rows = heard.new_zeros(heard.shape[0], self._cache.slots, heard.shape[2])
        rows[:, : self._taken] = heard
        return rows

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

    def own(self, layer: int, mixed: torch.Tensor) -> torch.Tensor:
        """Attend causally to what the slot holds and to the new positions."""
        shape, (slot, start, _, _) = self._cache.shape, self._place
        size = (self._halves, self._count, 3, shape.heads, shape.head_width)
        query, key, value = mixed.view(size).permute(2, 0, 3, 1, 4).contiguous()
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
        query = query.contiguous().view(1, self._count, shape.heads, shape.head_width).transpose(1, 2)
        seen, taken = (part[layer][slot, None, :, :text] for part in (self._cache.text_keys, self._cache.text_values))
        heard = functional.scaled_dot_product_attention(query, seen, taken)
        return heard.transpose(1, 2).reshape(-1, shape.heads * shape.head_width)
