"""The process that pulls one model for a worker: ``python -m soundfleet_worker.models.pull_main ORDER``.

One JSON document per line on stdout: ``Going`` while it goes on, then ``Pulled`` or ``Refused``. It dies with the
supervisor that started it; what it has gathered stays, and the next pull goes on from there.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import TypeAlias

import msgspec

from soundfleet_schemas import ErrorInfo, SoundfleetError

from ..audio.decode_main import bound
from ..backends.contract import ModelConfig
from ..engine.process import die_with_parent
from .pull import Fetched, pull

MEMORY_BYTES = 1 << 30
"""Of data; typical is 60 MiB, and a list without an end is as long as the hub likes."""
EVERY_SEC = 0.25
"""Between two reports of the same percent."""


class PullOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to pull; ``parent`` is the process to die with."""

    name: str
    parent: int
    offline: bool = False


class Going(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How far it is."""

    component: str
    done_bytes: int
    total_bytes: int


class Pulled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The files are here."""

    folder: str


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """They are not, and why."""

    error: ErrorInfo


PullReport: TypeAlias = Going | Pulled | Refused


class Reports:
    """Writes a report for every component and every percent, and else at most one in ``EVERY_SEC``."""

    def __init__(self) -> None:
        self._said: tuple[str, int] | None = None
        self._at = 0.0

    def __call__(self, fetched: Fetched) -> None:
        """Take the newest state."""
        now, news = time.monotonic(), (fetched.component, fetched.percent)
        if news != self._said or now - self._at >= EVERY_SEC:
            self._said, self._at = news, now
            say(Going(**fetched._asdict()))


def say(report: PullReport) -> None:
    """Write one line."""
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


def main(text: str) -> int:
    """Carry out an order; the exit status is 1 after ``Refused``."""
    order = msgspec.json.decode(text, type=PullOrder)
    die_with_parent()
    bound(resource.RLIMIT_DATA, MEMORY_BYTES, MEMORY_BYTES)
    if os.getppid() != order.parent:  # it died before this process could say that it wants to die with it
        return 1
    try:
        say(Pulled(folder=str(pull(order.name, ModelConfig(offline=order.offline), Reports()))))
    except SoundfleetError as exc:
        say(Refused(error=exc.info))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
