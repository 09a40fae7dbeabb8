"""``place``: where a waiting job stands in its queue. A verb that only reads."""

from __future__ import annotations

from soundfleet_schemas import Keys

from .exchange import Exchange, script
from .room import room

MOST_COUNTED = 1000
"""A script blocks the server while it counts."""


def place(keys: Keys, job_id: str) -> Exchange[int | None]:
    """Say how many jobs go before one that waits, at most ``MOST_COUNTED``; None when it does not wait in a lane.

    Ageing may let some of them pass, or let it pass others: it is where the job stands, not when it starts.
    """
    return Exchange(script("place"), room(keys), [job_id, MOST_COUNTED], lambda reply: reply)
