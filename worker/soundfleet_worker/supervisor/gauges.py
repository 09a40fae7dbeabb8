"""What the engine takes while a run is in it: its peak memory, and how busy the device is.

Runs share an engine, so each is told what the engine took while it was there, whoever else was there too.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from weakref import WeakSet

from .nvml import Nvml

_KIB_PER_MB = 1024
_RESET_PEAK = "5"
"""What ``clear_refs`` takes to begin a new peak of resident memory (Linux 4.0)."""


class Reading(NamedTuple):
    """The device at one moment; None is not known."""

    gpu_usage: float | None = None
    """0 to 1."""
    gpu_memory_mb: int | None = None


class Usage:
    """What was seen while one run was in the engine."""

    def __init__(self) -> None:
        self.memory_mb = 0
        self.gpu_memory_mb: int | None = None
        self._busy: list[float] = []

    @property
    def gpu_usage(self) -> float | None:
        """The mean of the readings; None without one."""
        return round(math.fsum(self._busy) / len(self._busy), 3) if self._busy else None

    @property
    def has_gpu(self) -> bool:
        return bool(self._busy)

    def add(self, reading: Reading) -> None:
        """Take one more reading of the device."""
        if reading.gpu_usage is not None:
            self._busy.append(reading.gpu_usage)
        if reading.gpu_memory_mb is not None:
            self.gpu_memory_mb = max(self.gpu_memory_mb or 0, reading.gpu_memory_mb)


class PeakMemory:
    """The peak resident memory of a process between two readings.

    The kernel's own peak, begun anew at each reading. Where that is not allowed: the memory now, or the peak of the
    process' whole life when it has just risen.
    """

    def __init__(self, pid: Callable[[], int | None]) -> None:
        self._pid = pid
        self._reset_of: int | None = None
        """The process whose peak was begun anew."""
        self._peak_seen_kib = 0

    def read_mb(self) -> int:
        """The peak since the last reading, MB; 0 without a process."""
        pid = self._pid()
        if pid is None:
            return 0
        now_kib, peak_kib = _resident_kib(pid)
        fresh = self._reset_of == pid or peak_kib > self._peak_seen_kib
        self._peak_seen_kib = peak_kib
        self._reset_of = None
        with contextlib.suppress(OSError):  # not ours to write in some containers
            Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
            self._reset_of = pid
        return (peak_kib if fresh else now_kib) // _KIB_PER_MB


def _resident_kib(pid: int) -> tuple[int, int]:
    """Return resident memory now, and its peak; zeros of a process that has just ended, or without /proc."""
    found = {"VmRSS": 0, "VmHWM": 0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0])
    return found["VmRSS"], found["VmHWM"]


class Gauges:
    """Watches the engine for every run that is in it."""

    def __init__(self, pid: Callable[[], int | None], device: Callable[[], str], nvml: Nvml | None = None) -> None:
        self._memory = PeakMemory(pid)
        self._device = device
        self._nvml = nvml or Nvml()
        self._open: WeakSet[Usage] = WeakSet()  # a run that fails never closes its own
        self._last = Reading()

    @property
    def watched(self) -> bool:
        """Whether a run is in the engine."""
        return bool(self._open)

    def begin(self) -> Usage:
        """A run goes into the engine."""
        self._read_memory()  # what came before is not this run's
        usage = Usage()
        self._open.add(usage)
        return usage

    def end(self, usage: Usage) -> None:
        """It came out. A run shorter than the pause between two readings gets the last one."""
        self._read_memory()
        self._open.discard(usage)
        if not usage.has_gpu:
            usage.add(self._last)

    def read_device(self) -> Reading:
        """Ask the driver, which may take milliseconds: call it in a thread."""
        return Reading(*self._nvml.read(self._device()))

    def take(self, reading: Reading) -> None:
        """Share a reading of the device, and the memory of this moment, among the runs in the engine."""
        self._last = reading
        self._read_memory()
        for usage in self._open:
            usage.add(reading)

    def _read_memory(self) -> None:
        peak_mb = self._memory.read_mb()
        for usage in self._open:
            usage.memory_mb = max(usage.memory_mb, peak_mb)
