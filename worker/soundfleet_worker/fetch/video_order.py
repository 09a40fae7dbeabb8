"""What passes between the fetcher of videos and its process: an order as JSON, then lines of JSON back."""

from __future__ import annotations

from typing import TypeAlias

from soundfleet_schemas import Limits, Record

from ..audio.decode_main import Box, Failure
from .guard import read_networks
from .policy import FetchPolicy

MEDIA = "media"
"""The file that the process makes in its directory, whatever its title and format are."""
COOKIES = "cookies.txt"
"""The operator's cookies in that directory, a copy."""


class Reach(Record, frozen=True, kw_only=True):
    """Where connections may go: what the process needs of a ``FetchPolicy``."""

    networks: tuple[str, ...]
    ports: tuple[int, ...]
    read_sec: float
    min_bytes_per_sec: int
    rate_after_sec: float
    pins: dict[str, str]
    """Names with a fixed ``ADDRESS:PORT``; ``*`` is every name. The guard looks at that address like at any other."""

    @classmethod
    def of(cls, policy: FetchPolicy, pins: dict[str, str]) -> Reach:
        """Take what is needed of a policy."""
        return cls(
            networks=tuple(str(network) for network in policy.allow_networks),
            ports=policy.public_ports,
            read_sec=policy.read_sec,
            min_bytes_per_sec=policy.min_bytes_per_sec,
            rate_after_sec=policy.rate_after_sec,
            pins=pins,
        )

    @property
    def policy(self) -> FetchPolicy:
        """What the guard needs."""
        return FetchPolicy(read_networks(",".join(self.networks)), self.ports)


class Order(Record, frozen=True, kw_only=True):
    """What the process is to do; JSON on its stdin: an address may hold a secret, and a command line has none."""

    url: str
    youtube: bool
    """Only YouTube's extractors may read it."""
    directory: str
    """Private, and the only place where it writes."""
    runtime: str | None
    """The JavaScript runtime: the only program that may be started."""
    reach: Reach
    limits: Limits
    box: Box
    parent: int
    """Process id. Its death is ours."""


class Progress(Record, frozen=True, kw_only=True, tag="progress"):
    """How much has come."""

    size_bytes: int
    total_bytes: int | None = None


class Success(Record, frozen=True, kw_only=True, tag="success"):
    """``MEDIA`` is written. The words are the host's."""

    host: str
    content_type: str
    filename: str


Reply: TypeAlias = Progress | Success | Failure
