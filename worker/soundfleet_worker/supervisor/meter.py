"""What this worker's processes use: CPU seconds, and the gauges of its engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from .gauges import Gauges

_FRESH_SEC = 0.05
_TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """CPU seconds of this process and of its engines, dead ones included; a reading is good for 50 ms."""

    def __init__(self, engine_pid: Callable[[], int | None] = lambda: None) -> None:
        self._engine_pid = engine_pid
        self._read_at = -1.0
        self._reading = 0.0

    def cpu_sec(self) -> float:
        """CPU seconds used so far; never falls."""
        now = time.monotonic()
        if now - self._read_at >= _FRESH_SEC:
            times = os.times()
            own = times.user + times.system + times.children_user + times.children_system
            self._reading = max(self._reading, own + _process_cpu_sec(self._engine_pid()))
            self._read_at = now
        return self._reading


class Meter:
    """Everything that is measured of this worker; ``device`` is torch's name of the engine's."""

    def __init__(
        self, engine_pid: Callable[[], int | None] = lambda: None, device: Callable[[], str] = lambda: "cpu"
    ) -> None:
        self.cpu = CpuMeter(engine_pid)
        self.gauges = Gauges(engine_pid, device)


def _process_cpu_sec(pid: int | None) -> float:
    if pid is None:
        return 0.0
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # it has just ended, or this system has no /proc
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SEC
