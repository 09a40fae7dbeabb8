"""Gathering one launch from several separations: fair, and always of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from .windows import Window, Windows


class Pending(Protocol):
    """A separation that has windows left."""

    windows: Windows
    current_step: int
    served: int
    """Number of the launch that last took a window of it."""


R = TypeVar("R", bound=Pending)


def gather(runs: Sequence[R], slots: int) -> list[tuple[R, Window]]:
    """Fill up to ``slots`` with windows of one sub-model and one length, one run after the other in turn.

    Who was served longest ago leads and decides the shape; the windows of a run come in their order.
    """
    order = sorted(runs, key=lambda run: (run.served, run.current_step))
    lead = order[0].windows[order[0].current_step]
    taken: list[tuple[R, Window]] = []
    ahead = 0
    while order and len(taken) < slots:
        going = []
        for run in order:
            index = run.current_step + ahead
            if index >= len(run.windows):
                continue
            window = run.windows[index]
            if (window.model, window.length) != (lead.model, lead.length):
                continue
            going.append(run)
            if len(taken) < slots:
                taken.append((run, window))
        order, ahead = going, ahead + 1
    return taken
