"""The training material: a pool of sketches, renewed as it is used, and batches cut from it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray

from ..sketch import STEMS, compose, render
from ..sketch.mood import LEXICON
from .architecture import SAMPLE_RATE

TRAINING_SEEDS = 1_000_000
"""Sketches for training have seeds from here on, those for evaluation lie below."""


@dataclass(frozen=True, slots=True)
class Mixing:
    """How a batch is mixed from the pool."""

    remix: float = 0.3
    """Probability that the stems of an item come from different pieces."""
    gain_db: float = 4.0
    """Each stem is made louder or softer by up to this much."""


def invent_prompt(chance: Random) -> str:
    """Return a random prompt: some known words, sometimes an unknown one or a tempo."""
    words = chance.sample(sorted(LEXICON), chance.randrange(4))
    if chance.random() < 0.5:
        words.append("".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(5)))
    if chance.random() < 0.25:
        words.append(f"{chance.randrange(60, 130)} bpm")
    return " ".join(words)


class Pool:
    """Rendered stems kept in memory in half precision: a list of (4, 2, n) arrays."""

    def __init__(self, size: int, seed: int, seconds: tuple[float, float] = (14.0, 28.0)) -> None:
        self._chance = Random(f"training pool {seed}")
        self._seconds = seconds
        self._pieces = [self._render() for _ in range(size)]
        self._oldest = 0

    def renew(self) -> None:
        """Replace the oldest sketch by a new one."""
        self._pieces[self._oldest] = self._render()
        self._oldest = (self._oldest + 1) % len(self._pieces)

    def batch(self, items: int, samples: int, mixing: Mixing) -> torch.Tensor:
        """Return stems (items, 4, 2, samples) in float32; the mixture is their sum over dimension 1."""
        return torch.from_numpy(np.stack([self._item(samples, mixing) for _ in range(items)]))

    def _item(self, samples: int, mixing: Mixing) -> NDArray[np.float32]:
        apart = self._chance.random() < mixing.remix
        stems = self._cut(samples)
        if apart:
            stems = np.stack([self._cut(samples)[index] for index in range(len(STEMS))])
        gains = [10.0 ** (self._chance.uniform(-mixing.gain_db, mixing.gain_db) / 20.0) for _ in STEMS]
        sign = self._chance.choice((-1.0, 1.0))
        out = stems.astype(np.float32) * (sign * np.array(gains, dtype=np.float32)[:, None, None])
        if self._chance.random() < 0.5:
            out = out[:, ::-1]
        return np.ascontiguousarray(out, dtype=np.float32)

    def _cut(self, samples: int) -> NDArray[np.float16]:
        piece = self._chance.choice(self._pieces)
        start = self._chance.randrange(max(1, piece.shape[2] - samples + 1))
        return piece[:, :, start : start + samples]

    def _render(self) -> NDArray[np.float16]:
        seed = self._chance.randrange(TRAINING_SEEDS, 2**40)
        seconds = self._chance.uniform(*self._seconds)
        stems = render(compose(invent_prompt(self._chance), seed, seconds, SAMPLE_RATE))
        return np.stack([stems[stem] for stem in STEMS]).astype(np.float16)
