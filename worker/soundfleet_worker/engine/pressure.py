"""Memory that ran out in a launch: what is given up for it, and how launches grow back.

First warm models that nobody uses go, then the model makes its launches smaller, then fewer runs share one. Memory may
have been short for a moment only (another process, a large neighbour), so after a number of good launches the last
step is undone. Where that fails the number doubles: a device that is too small for good loses ever less to trying.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .devices import release_memory
from .faults import is_out_of_memory, let_go

if TYPE_CHECKING:
    from .service import Service
    from .shelf import Shelf

PATIENCE = 16
MOST_PATIENCE = 4096


@dataclass(slots=True)
class Pressure:
    """How small the launches of one service have become, and when they may grow."""

    at_once: int | None = None
    """How many runs one launch takes; None is all."""
    patience: int = PATIENCE
    """Good launches before the next attempt to grow."""
    good: int = 0
    """Good launches since memory ran out or since the last attempt."""
    grown: bool = False
    """Whether the last change was to grow."""


def relieve(service: Service, size: int, shelf: Shelf) -> bool:
    """After a launch of ``size`` runs ran out of memory: free some, or need less; False when nothing is left to do."""
    pressure = service.pressure
    release_memory()
    if shelf.evict_least_used(keep=service):
        return True
    if pressure.grown:
        pressure.patience = min(2 * pressure.patience, MOST_PATIENCE)
    pressure.good, pressure.grown = 0, False
    if _shrunk(service):
        return True
    if size > 1:
        pressure.at_once = size // 2
        return True
    return False


def _shrunk(service: Service) -> bool:
    """Ask the model to shrink: to move what it holds may itself take memory that is not there."""
    try:
        return service.loaded.shrink()
    except Exception as exc:  # whatever a backend raises; only that there is no memory is known already
        if not is_out_of_memory(exc):
            raise
        let_go(exc)
        return False


def ease(service: Service, shelf: Shelf) -> None:
    """After a good launch: undo a step of what ``relieve`` did, when it is time."""
    pressure = service.pressure
    pressure.good += 1
    if pressure.good < pressure.patience:
        return
    if pressure.grown:  # what was tried has held
        pressure.patience = PATIENCE
    pressure.good = 0
    if pressure.at_once is not None:
        more = 2 * pressure.at_once
        pressure.at_once = more if more < service.loaded.max_runs else None
        pressure.grown = True
    else:
        pressure.grown = shelf.grow(service)
