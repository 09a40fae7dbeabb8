"""An http(s) address, taken apart and checked."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from soundfleet_schemas import ErrorCode, error
from soundfleet_schemas.errors import show
from soundfleet_schemas.sources import MAX_URL_CHARS

_PORTS = {"http": 80, "https": 443}
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class Target(NamedTuple):
    """Where one request goes."""

    scheme: str
    host: str
    """Lower case, ASCII, without brackets and without a dot at its end."""
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


def parse_target(url: str) -> Target:
    """Read an address. Raises INVALID_SOURCE."""
    if len(url) > MAX_URL_CHARS or any(c.isspace() or not c.isprintable() for c in url):
        raise error(ErrorCode.INVALID_SOURCE, f"{show(url)} is too long, or holds white space or control characters")
    try:
        parts = urlsplit(url)
        host, port = _ascii(parts.hostname or ""), parts.port
    except ValueError as exc:  # UnicodeError too
        raise error(ErrorCode.INVALID_SOURCE, f"{show(url)} is not an address: {exc}") from None
    if parts.scheme not in _PORTS or not host:
        raise error(ErrorCode.INVALID_SOURCE, f"{show(url)} is not an http or https address")
    if "@" in parts.netloc:
        raise error(ErrorCode.INVALID_SOURCE, "the address holds a user name or password; use a signed address instead")
    path = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*")
    query = quote(parts.query, safe="/%:=&?~+!$,;'@()*[]")
    return Target(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, f"{path}?{query}".rstrip("?"))


def _ascii(host: str) -> str:
    """Return the one way to write a host; raises ValueError."""
    if ":" not in host:
        return host.encode("idna").decode("ascii").lower().rstrip(".")
    if "%" in host:
        raise ValueError("an IPv6 address with a zone leads nowhere else")
    return str(IPv6Address(host))


def follow(target: Target, location: str) -> Target:
    """Return where a redirect leads. Raises SOURCE_FORBIDDEN for a downgrade, and for what is no address."""
    location = quote(location.encode("latin-1"), safe=_PRINTABLE)  # many a host sends spaces and raw UTF-8
    try:
        step = parse_target(urljoin(target.url, location))
    except ValueError as exc:  # InvalidRequest too
        message = f"{show(target.host)} redirects to what is not an address that can be fetched"
        raise error(ErrorCode.SOURCE_FORBIDDEN, message) from exc
    if target.scheme == "https" and step.scheme == "http":
        raise error(ErrorCode.SOURCE_FORBIDDEN, f"{show(target.host)} redirects from https to plain http")
    return step
