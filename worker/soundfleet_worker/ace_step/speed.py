"""How fast this model is on this device: measured as it goes, so that the end of a song can be foretold.

Calls of the transformer and tiles of the VAE are laid out to need about as many operations; how long those take differs
from device to device. Nothing but the estimate depends on what is measured: shapes are the same everywhere.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..backends.mean import Mean
from .song import Phase

if TYPE_CHECKING:
    import torch

WEIGHT = 0.3
"""Of the newest launch."""
KEPT = 64
"""Sizes of launches."""


class Timer(ABC):
    """Tells how long a launch took on its device."""

    @abstractmethod
    def mark(self) -> Any:
        """Return now."""

    @abstractmethod
    def between(self, start: Any, end: Any) -> float | None:
        """Return the seconds between two marks; None while the device has not come to the second."""


class WallTimer(Timer):
    """Of a device that works while it is waited for."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock

    def mark(self) -> float:
        return self._clock()

    def between(self, start: float, end: float) -> float:
        return end - start


class CudaTimer(Timer):
    """Of a GPU, which works behind: its own marks are looked at when it has passed them, and nobody waits for it."""

    def mark(self) -> torch.cuda.Event:
        import torch

        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float | None:
        return float(start.elapsed_time(end)) / 1000.0 if end.query() else None  # type: ignore[no-untyped-call]


def timer_of(device: torch.device) -> Timer:
    """Return the timer of a device."""
    return CudaTimer() if device.type == "cuda" else WallTimer()


class Speed:
    """Moving means of what launches took, by what they do and by their size in operations."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._means: OrderedDict[tuple[Phase, int], Mean] = OrderedDict()
        self._behind: deque[tuple[tuple[Phase, int], Any, Any]] = deque()
        """Launches that the device had not ended when they were last looked at."""

    @contextmanager
    def timing(self, phase: Phase, size: int) -> Iterator[None]:
        """Measure a launch of ``size`` operations; one that raises is not counted."""
        start = self._timer.mark()
        yield
        self._behind.append(((phase, size), start, self._timer.mark()))

    def launch_sec(self, phase: Phase, size: int) -> float | None:
        """Return how long such a launch takes: as seen, or in proportion to the size that is nearest; None if none was.

        Until the encoding was seen it is taken for as fast as the decoding, which is nearly the same work.
        """
        self._look()
        seen = self._means.get((phase, size))
        return self._in_proportion(phase, size) if seen is None else seen.sec

    def _in_proportion(self, phase: Phase, size: int) -> float | None:
        alike = Phase.decode if phase is Phase.encode and not self._seen(phase) else phase
        sizes = self._seen(alike)
        if not sizes:
            return None
        nearest = min(sizes, key=lambda known: max(known, size) / min(known, size))
        return (self._means[alike, nearest].sec or 0.0) * size / nearest

    def _seen(self, phase: Phase) -> list[int]:
        return [size for kind, size in self._means if kind is phase]

    def _look(self) -> None:
        while self._behind:
            key, start, end = self._behind[0]
            took = self._timer.between(start, end)
            if took is None:
                return
            self._behind.popleft()
            self._saw(key, took)

    def _saw(self, key: tuple[Phase, int], took: float) -> None:
        """The first launch of a size makes its kernels: it says no more than what was foreseen."""
        mean = self._means.pop(key, None)
        if mean is None:
            mean, foreseen = Mean(WEIGHT), self._in_proportion(*key)
            took = took if foreseen is None else min(took, foreseen)
        mean.saw(took)
        self._means[key] = mean
        if len(self._means) > KEPT:
            self._means.popitem(last=False)
