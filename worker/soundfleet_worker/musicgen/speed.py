"""How fast the parts of the work are on this device, measured as it goes."""

from __future__ import annotations

from ..backends.mean import Mean
from .windows import WINDOW_SEC

WEIGHT = 0.1
"""Of the newest observation."""
KEPT = 0.998
"""Of what older tokens say of the price of a position, when a new span has been drawn."""
BELIEF = 6.0
"""Spans that the first guess of that price counts for."""
MOST = 20.0
"""How many times the guess the price can be."""


class TokenSpeed:
    """Seconds of a token of all slots: some for the weights, and some for every position that is attended to.

    How those compare is learned over many spans, by least squares, from a first guess: by the bytes that are read. How
    long it all takes at present is learned quickly.
    """

    def __init__(self, guess: float, frame_rate: int) -> None:
        """``guess``: the price of a position, beside that of the weights."""
        self._guess, self._most = guess, float(WINDOW_SEC * frame_rate)
        self._weights = Mean(WEIGHT)
        self._sums = [0.0] * 5
        """Of 1, positions, seconds, positions squared, positions by seconds."""

    def drew(self, positions: float, token_sec: float) -> None:
        """A span's tokens took so long each while so many positions were attended to, in all slots together."""
        self._weights.saw(token_sec / (1.0 + self.price * positions))
        new = (1.0, positions, token_sec, positions * positions, positions * token_sec)
        self._sums = [KEPT * old + term for old, term in zip(self._sums, new, strict=True)]

    @property
    def price(self) -> float:
        """Of a position, beside the weights: the slope of what was measured, pulled to that of the guess."""
        n, x, y, xx, xy = self._sums
        if not n:
            return self._guess
        x, y, xx, xy = x / n, y / n, xx / n, xy / n
        guessed = self._guess * y / (1.0 + self._guess * x)
        pull = BELIEF * self._most**2 / 12 / n  # as of so many spans, spread over a window
        slope = (xy - x * y + pull * guessed) / (xx - x * x + pull)
        base = y - slope * x
        most = MOST * self._guess
        return min(max(slope / base, 0.0), most) if base > 0 else most

    def sec(self, positions: float) -> float | None:
        """Return how long a token takes while so many positions are attended to; None before the first."""
        return None if self._weights.sec is None else self._weights.sec * (1.0 + self.price * positions)


class Speeds:
    """Of everything that a studio does."""

    def __init__(self, guess: float, frame_rate: int) -> None:
        """``guess``: the price of a position, beside that of the weights."""
        self.token = TokenSpeed(guess, frame_rate)
        self.hear, self.fill, self.sound = (Mean(WEIGHT) for _ in range(3))
        """Per step of the codec, per position, per step of the codec."""
