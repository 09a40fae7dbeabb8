"""What fetching may do, and what it returns."""

from __future__ import annotations

from soundfleet_schemas import Record
from soundfleet_schemas.sources import YOUTUBE_HOSTS


class FetchPolicy(Record, frozen=True, kw_only=True):
    """The operator's bounds on fetching. The defaults reach the public internet only."""

    allow_networks: tuple[str, ...] = ()
    """Networks (CIDR) that may be reached although they are not public."""
    ports: tuple[int, ...] = (80, 443)
    video_hosts: tuple[str, ...] = tuple(sorted(YOUTUBE_HOSTS))
    """Hosts whose pages are given to yt-dlp; exact names, lower case."""
    cookies_file: str | None = None
    """Of the operator, in Netscape format; a copy is used."""
    js_runtimes: tuple[str, ...] = ("deno",)
    """The programs that yt-dlp may start to solve a page's challenges."""
    ca_file: str | None = None
    """Certificates to trust in place of the system's."""
    max_redirects: int = 5
    connect_sec: float = 10.0
    read_sec: float = 20.0
    """Without a byte, after which a host counts as away; also the time for a whole response head."""
    total_sec: float = 300.0
    min_bytes_per_sec: int = 4096
    """Mean rate below which a transfer is given up, once ``rate_after_sec`` have passed."""
    rate_after_sec: float = 15.0


class Fetched(Record, frozen=True, kw_only=True):
    """A file that was fetched."""

    path: str
    size_bytes: int
    sha256: str
    content_type: str
    """As the host says; empty when it does not. Never trusted: probing decides."""
    final_url: str
    filename: str
    """For people only: never a path on this machine."""
