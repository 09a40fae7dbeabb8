"""What every contender carries: a document of 300 bytes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from probe import MARK

SIZE_BYTES = 300
DOCUMENT = "x" * SIZE_BYTES
PROBE = (MARK + DOCUMENT)[:SIZE_BYTES]


def unhurried(count: int) -> Iterator[None]:
    """Wait 10 to 30 ms before each of ``count`` turns, so that the worker is idle and no timer is in step."""
    dice = random.Random(7)
    for _ in range(count):
        time.sleep(dice.uniform(0.010, 0.030))
        yield
