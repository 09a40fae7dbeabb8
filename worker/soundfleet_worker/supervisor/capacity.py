"""How many more jobs of a backend are claimed: as many as its model takes at once, and one that is prepared.

What a worker holds and cannot run, another worker could.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from soundfleet_schemas import Stage, backend_of

from .run import Run

AHEAD = 1
"""Jobs that are fetched and decoded while others are on the device."""
PLACES = 1
"""Of a model that is not loaded yet."""


def room(backend: str, places: Mapping[str, int], runs: Iterable[Run]) -> int:
    """Return how many; a run whose request was not read yet may be of any backend, one that is delivered of none."""
    held = sum(
        not run.fetches
        and run.stage is not Stage.deliver
        and (run.request is None or backend_of(run.request) == backend)
        for run in runs
    )
    return places.get(backend, PLACES) + AHEAD - held
