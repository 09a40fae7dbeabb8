"""One piece on its way from prompt to audio, and the phases that it goes through.

hear     the source becomes codes
wait     for a slot
open     a window is laid out in the slot
fill     what stands before the first token of a window goes through the decoder: melody, prompt, known frames
draw     token by token, together with the other slots; at a window's end back to open, or on
sound    no token is left: what is not audio yet becomes it

Frames become audio as soon as they and those after them that they sound with are complete, while the rest is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

import torch

from soundfleet_schemas import Stage

from ..backends.contract import EngineJob, Run
from .conditions import Prompt
from .pattern import Pattern
from .sampling import Sampling, uniforms
from .slots import Seat
from .windows import Window, plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .codec import Codec, Decoding, Encoding


class Phase(Enum):
    """Where a piece is."""

    hear = auto()
    wait = auto()
    open = auto()
    fill = auto()
    draw = auto()
    sound = auto()
    done = auto()


@dataclass(slots=True)
class Given:
    """What a piece is made from."""

    prompt: Prompt
    sampling: Sampling
    seed: int
    frames: int
    """Of the whole track."""
    source: NDArray[np.float32] | None = None
    """Audio that the track begins with, (2, samples)."""
    reference: NDArray[np.float32] | None = None
    """Audio whose melody is followed, (2, samples)."""
    warnings: list[str] = field(default_factory=list)


class Piece(Run):
    """A run of MusicGen."""

    def __init__(self, job: EngineJob, given: Given, pattern: Pattern, codec: Codec) -> None:
        self.job, self.given = job, given
        self.encoding: Encoding | None = None if given.source is None else codec.encoding(given.source)
        self.phase = Phase.wait if given.source is None else Phase.hear
        known = 0 if given.source is None else given.source.shape[1] // codec.hop
        self.windows: Sequence[Window] = plan(given.frames, known, codec.frame_rate)
        lengths = tuple(pattern.length(window.frames) for window in self.windows)
        self._uniforms = uniforms(given.seed, pattern.codebooks, lengths)
        tokens = sum(pattern.steps(window.frames, window.known) for window in self.windows)
        self.total_steps = codec.steps(known) + tokens + codec.steps(given.frames)
        self._pattern, self._codec, self._index = pattern, codec, 0
        self.codes = torch.full((pattern.codebooks, given.frames), pattern.pad, dtype=torch.long)
        self.ready = 0
        """Frames of the codes that are there, from the first one on."""
        self.seat: Seat | None = None
        self.filled = 0
        """Positions of the caches that are filled in this window."""
        self.prefix: torch.Tensor | None = None
        self.decoding: Decoding | None = None
        self.audio: NDArray[np.float32] | None = None
        self.broken = False
        """Whether the decoder gave something that is no number."""
        self.served = 0

    @property
    def done(self) -> bool:
        return self.phase is Phase.done

    @property
    def window(self) -> Window:
        """The one that is being decoded."""
        return self.windows[self._index]

    @property
    def draws(self) -> torch.Tensor:
        """The numbers that this window's tokens are drawn with, (codebooks, positions)."""
        return self._uniforms[self._index]

    def laid(self) -> torch.Tensor:
        """This window's tokens, (codebooks, positions), with what is known in place."""
        window = self.window
        return self._pattern.lay(window.frames, self.codes[:, window.start : window.start + window.known])

    def take(self, row: torch.Tensor, position: int) -> None:
        """Keep the frames of this window that are complete when its row is decoded up to ``position``."""
        window = self.window
        end = window.start + self._pattern.complete(position)
        if end > self.ready:
            start = self.ready
            self.codes[:, start:end] = self._pattern.read(row, start - window.start, end - window.start)
            self.ready = end

    def next_window(self) -> bool:
        """This window is complete; returns whether there is another one."""
        self._index += 1
        return self._index < len(self.windows)

    def heard(self, codes: torch.Tensor) -> None:
        """The source's codes, (codebooks, frames), are there."""
        self.codes[:, : codes.shape[1]] = codes
        self.ready = codes.shape[1]
        self.encoding, self.phase = None, Phase.wait

    @property
    def hears_left(self) -> int:
        """Steps of the codec until the source is codes."""
        return 0 if self.encoding is None else self.encoding.left

    @property
    def sounds_left(self) -> int:
        """Steps of the codec until the codes are audio."""
        return self._codec.steps(self.given.frames) if self.decoding is None else self.decoding.left

    @property
    def tokens_per_sound(self) -> int:
        """Tokens that a step of the codec needs."""
        return self._codec.chunk

    @property
    def windows_left(self) -> list[tuple[int, int]]:
        """Of this window and those after it the position from which is decoded, and the last one."""
        return [(window.known, self._pattern.length(window.frames) - 1) for window in self.windows[self._index :]]

    @property
    def sounds(self) -> bool:
        """Whether the frames of the codec's next step are there."""
        return self.decoding is not None and not self.decoding.done and self.decoding.needed <= self.ready

    def fail(self) -> None:
        """End at once: what was decoded is worth nothing."""
        self.broken, self.phase = True, Phase.done

    def begin_sound(self) -> None:
        """All tokens are there."""
        self.phase, self.stage = Phase.sound, Stage.decode
