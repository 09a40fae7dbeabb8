"""The delay pattern: codebook k of a frame is decoded k positions after codebook 0.

Position 0 is the start token of every codebook. Frame f of a codebook with delay d lies at position f + 1 + d; what is
left of a codebook's row is padding. The two channels of a stereo model are interleaved and share their delays.

    position     0  1  2  3  4  5  6
    codebook 0   P  a  b  c  P  P  P
    codebook 1   P  P  a  b  c  P  P      frames a, b, c; P is padding
    codebook 2   P  P  P  a  b  c  P
    codebook 3   P  P  P  P  a  b  c
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

OPEN = -1
"""Stands where a token is still to be decoded."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The delays of one checkpoint's codebooks."""

    codebooks: int
    channels: int
    pad: int
    """The padding token, which is the start token too."""

    @property
    def delays(self) -> list[int]:
        """How many positions each codebook comes later than it would without delays."""
        return [codebook // self.channels for codebook in range(self.codebooks)]

    @property
    def longest(self) -> int:
        """The number of different delays."""
        return self.codebooks // self.channels

    def length(self, frames: int) -> int:
        """Positions that hold ``frames`` frames, the start included."""
        return frames + self.longest

    def steps(self, frames: int, known: int = 0) -> int:
        """Tokens to decode until ``frames`` frames are complete when the first ``known`` are given."""
        return self.length(frames) - 1 - known

    def complete(self, position: int) -> int:
        """Frames that are there in every codebook when ``position`` is the last that was decoded."""
        return max(0, position - self.longest + 1)

    def lay(self, frames: int, known: torch.Tensor) -> torch.Tensor:
        """Return (codebooks, length) with the known frames, (codebooks, n), in place and OPEN where others go."""
        row = torch.full((self.codebooks, self.length(frames)), self.pad, dtype=torch.long)
        for codebook, delay in enumerate(self.delays):
            start = 1 + delay
            row[codebook, start : start + frames] = OPEN
            row[codebook, start : start + known.shape[1]] = known[codebook]
        return row

    def read(self, row: torch.Tensor, start: int, end: int) -> torch.Tensor:
        """Return frames ``start`` to ``end`` of a decoded row, (codebooks, frames)."""
        return torch.stack([row[k, 1 + delay + start : 1 + delay + end] for k, delay in enumerate(self.delays)])
