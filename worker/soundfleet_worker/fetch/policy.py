"""What fetching may do, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network
OnProgress: TypeAlias = Callable[[int, int | None], None]
"""Told the bytes that have come, and how many are to come in all, where that is known."""


class FetchPolicy(NamedTuple):
    """The operator's bounds on fetching. The defaults reach the public internet only."""

    allow_networks: tuple[Network, ...] = ()
    """May be reached, on any port, although they are not public."""
    public_ports: tuple[int, ...] = (80, 443)
    max_redirects: int = 5
    connect_sec: float = 10.0
    """For resolving a name, and for connecting to one address, with TLS."""
    read_sec: float = 20.0
    """Without a byte, after which a host counts as away; also the time for a whole response head."""
    total_sec: float = 300.0
    min_bytes_per_sec: int = 4096
    """Mean rate below which a transfer is given up, once ``rate_after_sec`` have passed."""
    rate_after_sec: float = 15.0


class Fetched(NamedTuple):
    """What was fetched. All but the size and the hash are the host's own words: probing decides what the file is."""

    size_bytes: int
    sha256: str
    host: str
    """Where the last redirect led."""
    content_type: str
    filename: str
    """For people only: never a path on this machine."""
