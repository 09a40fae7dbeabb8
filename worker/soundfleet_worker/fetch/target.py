"""An http(s) address, taken apart and checked."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from soundfleet_schemas import ErrorCode, error
from soundfleet_schemas.errors import show
from soundfleet_schemas.sources import MAX_URL_CHARS

from .policy import FetchPolicy


class Target(NamedTuple):
    """Where one request goes."""

    scheme: str
    host: str
    """Lower case, ASCII, without brackets."""
    port: int
    path: str
    """With the query, quoted."""

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def filename(self) -> str:
        return unquote(self.path.partition("?")[0].rpartition("/")[2])


_PORTS = {"http": 80, "https": 443}


def parse_target(url: str, policy: FetchPolicy) -> Target:
    """Read an address. Raises INVALID_SOURCE, or SOURCE_FORBIDDEN for a port that the policy lacks."""
    if len(url) > MAX_URL_CHARS or any(c.isspace() or not c.isprintable() for c in url):
        raise error(ErrorCode.INVALID_SOURCE, f"{show(url)} is too long, or holds white space or control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        ascii_host = host if ":" in host else host.encode("idna").decode("ascii").lower()
    except ValueError as exc:  # UnicodeError too
        raise error(ErrorCode.INVALID_SOURCE, f"{show(url)} is not an address: {exc}") from None
    if parts.scheme not in _PORTS or not ascii_host:
        raise error(ErrorCode.INVALID_SOURCE, f"{show(url)} is not an http or https address")
    if "@" in parts.netloc:
        raise error(ErrorCode.INVALID_SOURCE, "the address holds a user name or password; use a signed address instead")
    port = _PORTS[parts.scheme] if port is None else port
    if port not in policy.ports:
        raise error(ErrorCode.SOURCE_FORBIDDEN, f"port {port} of {show(host)} is not among those that may be reached")
    path = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*") + (
        "?" + quote(parts.query, safe="/%:=&?~+!$,;'@()*[]") if parts.query else ""
    )
    return Target(parts.scheme, ascii_host.rstrip("."), port, path)


def follow(target: Target, location: str, policy: FetchPolicy) -> Target:
    """Return where a redirect leads. Raises SOURCE_FORBIDDEN for a downgrade, and what ``parse_target`` raises."""
    step = parse_target(urljoin(target.url, location), policy)
    if target.scheme == "https" and step.scheme == "http":
        raise error(ErrorCode.SOURCE_FORBIDDEN, f"{show(target.host)} redirects from https to plain http")
    return step
