"""A moving mean of what a kind of work takes, for models that foretell when their runs end."""

from __future__ import annotations

BURST = 3.0
"""Means that one observation counts for at most."""


class Mean:
    """Seconds per unit; None before the first.

    What comes only once, as the making of kernels, is in the first observation, which the second replaces.
    """

    __slots__ = ("_seen", "_weight", "sec")

    def __init__(self, weight: float) -> None:
        """``weight`` of the newest observation."""
        self.sec: float | None = None
        self._weight, self._seen = weight, 0

    def saw(self, sec: float) -> None:
        """Take a new observation."""
        self._seen += 1
        if self.sec is None or self._seen <= 2:
            self.sec = sec
        else:
            self.sec += self._weight * (min(sec, BURST * self.sec) - self.sec)
