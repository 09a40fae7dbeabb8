"""What every verb gets and gives: the scripts' keys, and how words and times travel."""

from __future__ import annotations

from soundfleet_schemas import Keys


def room(keys: Keys) -> list[str]:
    """The keys that every script gets, in the order in which ``prelude.lua`` names them."""
    empty = ""
    return [
        keys.job(empty),
        keys.events(empty),
        keys.channel(empty),
        keys.lane_prefix,
        keys.bell(empty),
        keys.cache(empty),
        keys.control(empty),
        keys.jobs(),
        keys.leases,
        keys.delayed,
        keys.dead,
        keys.lanes,
        keys.expiries,
        keys.turns,
        keys.pace,
        keys.waiters(empty),
    ]


def text(value: bytes | str) -> str:
    """Read a word of a reply."""
    return value.decode() if isinstance(value, bytes) else value


def ms(seconds: float) -> int:
    """Return a time as scripts take it."""
    return round(seconds * 1000)
