"""What the worker has learned of its own speed, for honest estimates."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from soundfleet_schemas import Stage

if TYPE_CHECKING:
    from .run import Run

_WEIGHT = 0.3
"""Of the newest observation."""
_FIRST_GUESS = 0.01
"""Seconds to deliver one second of one file, before anything was delivered."""
_FIXED_SEC = 10.0
"""A delivery takes as long as if it had so much more audio: what it costs however short it is."""
_MARKS = 100
"""Times that are kept of a run, whatever the number of its steps."""


class Pace:
    """A moving mean of how long it takes to deliver a second of audio."""

    def __init__(self) -> None:
        self._per_audio_sec = _FIRST_GUESS
        self._decode_step_sec: dict[str, float] = {}
        self._runs: dict[str, list[Run]] = {}

    def delivered(self, audio_sec: float, took_sec: float) -> None:
        """Learn from a delivery; ``audio_sec`` counts every file."""
        if audio_sec > 0:
            self._per_audio_sec += _WEIGHT * (took_sec / (audio_sec + _FIXED_SEC) - self._per_audio_sec)

    def deliver_sec(self, audio_sec: float) -> float:
        """Estimate the seconds that a delivery will take."""
        return (audio_sec + _FIXED_SEC) * self._per_audio_sec

    @contextmanager
    def among(self, backend: str, run: Run) -> Iterator[None]:
        """Count a run among those of its backend, which share the device."""
        runs = self._runs.setdefault(backend, [])
        runs.append(run)
        try:
            yield
        finally:
            runs.remove(run)

    def sharing(self, backend: str, stage: Stage) -> int:
        """Return how many runs are decoding, or how many are not yet."""
        decodes = stage is Stage.decode
        return max(1, sum((run.stage is Stage.decode) is decodes for run in self._runs.get(backend, ())))

    def decoded(self, backend: str, step_sec: float) -> None:
        """Learn how long a step of decoding takes when nobody shares the device."""
        known = self._decode_step_sec.get(backend, step_sec)
        self._decode_step_sec[backend] = known + _WEIGHT * (step_sec - known)

    def decode_step_sec(self, backend: str, stage: Stage) -> float | None:
        """Estimate how long one will take a run of this stage, beside those that go with it; None before the first."""
        known = self._decode_step_sec.get(backend)
        return None if known is None else known * self.sharing(backend, stage)


class Steps:
    """How fast a run goes: by the later half of its steps, so that a wait for a slot is soon forgotten."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        """When which step was heard of, at most ``_MARKS`` over the whole run."""

    def clear(self) -> None:
        """Nothing has been heard of yet."""
        self._marks.clear()

    def heard(self, now: float, step: int, total: int) -> None:
        """Take where the run stands; one that stands before that was begun again."""
        marks = self._marks
        if marks and step < marks[-1][1]:
            marks.clear()
        if not marks or step - marks[-1][1] >= total / _MARKS:
            marks.append((now, step))
        while len(marks) > 2 and 2 * marks[1][1] <= step:
            marks.popleft()

    def step_sec(self, now: float, step: int) -> float | None:
        """Return how long a step takes; None until one was seen to be made."""
        if not self._marks or step <= self._marks[0][1]:
            return None
        since, first = self._marks[0]
        return (now - since) / (step - first)
