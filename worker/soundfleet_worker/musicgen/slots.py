"""The slots: per piece that is being decoded its tokens, its draws, its settings and its caches, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .attention import Place
from .cache import Cache, CacheShape
from .pattern import Pattern
from .sampling import Knobs, Sampling


@dataclass(slots=True)
class Seat:
    """Where a window of a piece stands in its slot; the tensors of the slots are written from it."""

    slot: int
    position: int
    """The token that goes in next; all before it are in the caches."""
    end: int
    """The last position: nothing follows it."""
    prefix: int
    """Positions of the caches before the first token."""
    text: int
    guided: bool

    @property
    def left(self) -> int:
        """Tokens still to decode."""
        return self.end - self.position

    @property
    def place(self) -> Place:
        """How attention sees it."""
        return Place(self.slot, self.prefix + self.position, self.text, self.guided)


class Slots:
    """All slots of one model. Index by slot; a free one holds padding and decodes nothing."""

    def __init__(self, shape: CacheShape, pattern: Pattern, vocabulary: int, length: int, device: torch.device) -> None:
        """``length`` is the longest window's, in positions."""
        self._shape, self.pattern, self.vocabulary = shape, pattern, vocabulary
        self._length, self.device = length, device
        self.count = 0
        self.free: list[int] = []

    def allocate(self, count: int) -> None:
        """Take the memory of ``count`` slots, all of them free."""
        self.cache = Cache(self._shape, count, self.device)
        self._make(count)
        self.count, self.free = count, list(range(count))

    def shrink(self, count: int, seats: list[Seat]) -> None:
        """Give the memory of all but ``count`` slots back; the seats, no more than these, move together."""
        moved = {seat.slot: target for target, seat in enumerate(sorted(seats, key=lambda seat: seat.slot))}
        self._resize(count, moved, lambda: self.cache.shrink(count, moved))
        for seat in seats:
            seat.slot = moved[seat.slot]

    def grow(self, count: int) -> None:
        """Take the memory of more slots."""
        kept = {slot: slot for slot in range(self.count)}
        self._resize(count, kept, lambda: self.cache.grow(count))

    def _resize(self, count: int, moved: dict[int, int], resize: Callable[[], None]) -> None:
        """Move the small tensors; the large ones come first, because memory may run out with them."""
        resize()
        names = ("tokens", "uniforms", "position", "end", "prefix", "text", "broken")
        before, knobs, free = {name: getattr(self, name) for name in names}, self.knobs, set(self.free)
        self._make(count)
        for source, target in moved.items():
            for name in names:
                getattr(self, name)[target] = before[name][source]
            self.knobs.copy(target, knobs, source)
        taken = {target for source, target in moved.items() if source not in free}
        self.count, self.free = count, [slot for slot in range(count) if slot not in taken]

    def _make(self, count: int) -> None:
        size = (count, self.pattern.codebooks, self._length)
        self.tokens = torch.full(size, self.pattern.pad, dtype=torch.long, device=self.device)
        self.uniforms = torch.zeros(size, device=self.device)
        self.position, self.end, self.prefix = (
            torch.zeros(count, dtype=torch.long, device=self.device) for _ in range(3)
        )
        self.text = torch.ones(count, dtype=torch.long, device=self.device)
        self.broken = torch.zeros(count, dtype=torch.bool, device=self.device)
        self.knobs = Knobs.on(self.device, count)

    def nbytes(self, count: int) -> int:
        """What so many slots take."""
        return self._shape.nbytes(count) + count * self.pattern.codebooks * self._length * 12

    @property
    def nbytes_of_a_position(self) -> int:
        """What attention to one more position reads."""
        return self._shape.nbytes(1) // self._shape.positions

    def set_up(self, seat: Seat, tokens: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> None:
        """Lay a window out in its slot: tokens and uniforms are (codebooks, positions).

        Launches of fixed shapes write the caches of every slot, at its position: of one that is being filled this is
        the one that its first own token writes again.
        """
        slot, length = seat.slot, tokens.shape[1]
        self.tokens[slot].fill_(self.pattern.pad)
        self.tokens[slot, :, :length] = tokens.to(self.device)
        self.uniforms[slot, :, :length] = uniforms.to(self.device)
        self.position[slot] = self.end[slot] = seat.position
        self.prefix[slot], self.text[slot], self.broken[slot] = seat.prefix, seat.text, False
        self.knobs.turn(slot, sampling, self.vocabulary)

    def tell_text(self, slot: int, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Store the keys and values of a prompt, per layer (heads, tokens, head width)."""
        for layer, (key, value) in enumerate(pairs):
            self.cache.text_keys[layer][slot, :, : key.shape[1]] = key
            self.cache.text_values[layer][slot, :, : value.shape[1]] = value

    def seat(self, seats: list[Seat]) -> None:
        """Say who decodes in the coming launches: all others stand still."""
        self.end.copy_(self.position)
        told = torch.tensor([(seat.slot, seat.position, seat.end) for seat in seats], device=self.device)
        slots, self.position[slots], self.end[slots] = told[:, 0], told[:, 1], told[:, 2]

    def leave(self, slot: int) -> None:
        """Free a slot."""
        if bool(self.broken[slot]):
            self.cache.clear(slot)
        self.tokens[slot].fill_(self.pattern.pad)
        self.position[slot] = self.end[slot] = self.prefix[slot] = 0
        self.text[slot] = 1
        self.free.append(slot)
        self.free.sort()
