"""What the worker has learned of its own speed, for honest estimates."""

from __future__ import annotations

_WEIGHT = 0.3
"""Of the newest observation."""
_FIRST_GUESS = 0.01
"""Seconds to deliver one second of one file, before anything was delivered."""


class Pace:
    """A moving mean of how long it takes to deliver a second of audio."""

    def __init__(self) -> None:
        self._per_audio_sec = _FIRST_GUESS

    def delivered(self, audio_sec: float, took_sec: float) -> None:
        """Learn from a delivery; ``audio_sec`` counts every file."""
        if audio_sec > 0:
            self._per_audio_sec += _WEIGHT * (took_sec / audio_sec - self._per_audio_sec)

    def deliver_sec(self, audio_sec: float) -> float:
        """Estimate the seconds that a delivery will take."""
        return audio_sec * self._per_audio_sec


def eta_sec(since_sec: float, steps: int, remaining: int, deliver_sec: float) -> float | None:
    """Seconds to the end of a run that took ``steps`` steps in ``since_sec``; None until one step was seen."""
    if steps <= 0:
        return None
    return round(since_sec / steps * remaining + deliver_sec, 1)
