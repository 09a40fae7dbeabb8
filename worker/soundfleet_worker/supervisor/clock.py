"""The worker's own clock, by which it trusts its leases."""

from __future__ import annotations

import time

if hasattr(time, "CLOCK_BOOTTIME"):

    def now() -> float:
        """Seconds that also pass while this process is stopped and while the machine sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def now() -> float:
        """Seconds that also pass while this process is stopped."""
        return time.monotonic()
