"""Which stretches of the mix a model sees, and where its output goes.

Demucs' scheme: a pass cuts the mix into segments that overlap; each shift is a pass over the mix moved by a random
amount; each sub-model of a bag makes its own passes. A segment is seen through a *window* of the length that the model
was trained on, centred on it, with the real audio around it and silence beyond the ends of the mix.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from soundfleet_schemas import ErrorCode, error

MAX_SHIFT_SEC = 0.5


@dataclass(frozen=True, slots=True)
class Window:
    """One launch's worth of one sub-model over one mix; positions are samples of the mix and may lie outside it."""

    model: int
    """Which sub-model of the bag."""
    start: int
    """Where the window begins."""
    length: int
    """What the model sees."""
    trim: int
    """Samples of the model's output before the segment."""
    offset: int
    """Where the segment begins."""
    kept: int
    """Length of the segment; less than the nominal one at the end of the mix."""
    blend: int
    """Row of ``Grid.blends`` that weighs the segment."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The segments of a pass: ``segment`` samples every ``stride``, blended by triangles that add up to one."""

    segment: int
    stride: int
    blends: NDArray[np.float32]
    """(rows, segment): weights of the first, second ... segment; the last row serves all further ones."""


@lru_cache(maxsize=16)
def grid(segment_sec: float, overlap: float, sample_rate: int) -> Grid:
    """Lay out segments; raises INVALID_OPTION when the stride comes to less than one sample.

    The weights are Demucs' triangle divided by the sum of all triangles that lie over the same sample, so that what
    is added up needs no division afterwards. That sum depends only on how many segments came before.
    """
    segment = int(sample_rate * segment_sec)
    stride = int((1 - overlap) * segment)
    if stride < 1:
        raise error(ErrorCode.INVALID_OPTION, f"segments of {segment} samples every {stride} samples cannot be made")
    rising = np.arange(1, segment // 2 + 1, dtype=np.float64)
    falling = np.arange(segment - segment // 2, 0, -1, dtype=np.float64)
    triangle = np.concatenate([rising, falling]) / (segment - segment // 2)
    reach = math.ceil(segment / stride)
    blends = np.empty((reach, segment), dtype=np.float32)
    for row in range(reach):
        total = np.zeros(segment)
        for neighbour in range(-row, reach):
            shift = neighbour * stride
            if 0 <= shift < segment:
                total[shift:] += triangle[: segment - shift]
            elif -segment < shift < 0:
                total[:shift] += triangle[-shift:]
        blends[row] = triangle / total
    return Grid(segment, stride, blends)


class Windows:
    """All windows of one separation, in the order in which they are made; computed one by one."""

    def __init__(
        self,
        samples: int,
        layout: Grid,
        models: Sequence[int],
        shifts: int,
        seed: int,
        sample_rate: int,
        window_length: Callable[[int, int], int],
    ) -> None:
        """``window_length(model, kept)`` says how much a sub-model wants to see of a segment of ``kept`` samples."""
        chance = random.Random(seed)
        longest = int(MAX_SHIFT_SEC * sample_rate)
        self._grid = layout
        self._samples = samples
        self._window_length = window_length
        self._passes: list[tuple[int, int, int]] = []
        """(index of the first window, sub-model, how far before the mix the pass begins)."""
        self._count = 0
        for model in models:
            for lead in [longest - chance.randint(0, longest) for _ in range(shifts)] or [0]:
                self._passes.append((self._count, model, lead))
                self._count += math.ceil((samples + lead) / layout.stride)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Window:
        if not 0 <= index < self._count:
            raise IndexError(index)
        first, model, lead = next(entry for entry in reversed(self._passes) if entry[0] <= index)
        row = index - first
        begin = row * self._grid.stride
        kept = min(self._grid.segment, self._samples + lead - begin)
        length = self._window_length(model, kept)
        trim = (length - kept) // 2
        offset = begin - lead
        return Window(model, offset - trim, length, trim, offset, kept, min(row, len(self._grid.blends) - 1))
