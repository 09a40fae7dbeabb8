"""What the worker has learned of its own speed, for honest estimates."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_WEIGHT = 0.3
"""Of the newest observation."""
_FIRST_GUESS = 0.005
"""Seconds to deliver one second of one file, before anything was delivered."""
_FIXED_SEC = 10.0
"""A delivery takes as long as if it had so much more audio: what it costs however short it is."""
_RECENT = 0.3
"""Share of what was done that the speed is taken from: the latest."""
_MARKS = 100
"""Marks that are kept of a run, whatever the number of its steps."""


class Pace:
    """A moving mean of how long it takes to deliver a second of audio; the first delivery replaces the guess."""

    def __init__(self) -> None:
        self._per_audio_sec = _FIRST_GUESS
        self._weight = 1.0

    def delivered(self, audio_sec: float, took_sec: float) -> None:
        """Learn from a delivery; ``audio_sec`` counts every file."""
        if audio_sec > 0:
            self._per_audio_sec += self._weight * (took_sec / (audio_sec + _FIXED_SEC) - self._per_audio_sec)
            self._weight = _WEIGHT

    def deliver_sec(self, audio_sec: float) -> float:
        """Estimate the seconds that a delivery will take."""
        return (audio_sec + _FIXED_SEC) * self._per_audio_sec


class _Mark(NamedTuple):
    at: float
    step: int


class Speed:
    """How fast a run goes: by the latest third of its steps, so that company that has left is soon forgotten."""

    __slots__ = ("_gain", "_last", "_marks")

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque()
        self._last: _Mark | None = None
        self._gain = 0
        """Steps of the last news."""

    def heard(self, now: float, step: int, total: int) -> None:
        """Take where the run stands; steps never fall."""
        marks, last = self._marks, self._last
        if last is None or step > last.step:
            self._gain = 0 if last is None else step - last.step
            self._last = _Mark(now, step)
        if not marks or step - marks[-1].step >= total / _MARKS:
            marks.append(_Mark(now, step))
        while len(marks) > 2 and marks[1].step <= (1 - _RECENT) * step:
            marks.popleft()

    def left_sec(self, now: float, left: int) -> float | None:
        """Estimate the seconds that ``left`` steps will take; None until one was seen to be made.

        What has passed since the last news is taken off, as far as it can have been for the next; when that is late,
        the run has become slower.
        """
        if self._last is None or self._last.step <= self._marks[0].step:
            return None
        since, made = self._marks[0], self._last.step - self._marks[0].step
        step_sec = max((self._last.at - since.at) / made, (now - since.at) / (made + self._gain))
        return max(0.0, step_sec * left - min(now - self._last.at, step_sec * self._gain))


class Foretold:
    """What a model says of itself; between two news, time is taken off, for as long as the last ones were apart."""

    __slots__ = ("_at", "_gap", "_left_sec")

    def __init__(self) -> None:
        self._at, self._gap = 0.0, 0.0
        self._left_sec: float | None = None

    def heard(self, now: float, left_sec: float) -> None:
        """Take what the model says now."""
        self._gap = 0.0 if self._left_sec is None else now - self._at
        self._at, self._left_sec = now, left_sec

    def left_sec(self, now: float) -> float | None:
        """Return what is left; None when the model never said anything."""
        return None if self._left_sec is None else max(0.0, self._left_sec - min(now - self._at, self._gap))
