"""Which addresses may be reached: the public internet, and the networks that the operator allows.

A host is resolved once; every address that it has must pass, and the connection goes to one of those.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from soundfleet_schemas import ErrorCode, SoundfleetError, error
from soundfleet_schemas.errors import show

from .policy import FetchPolicy, Network

Address: TypeAlias = IPv4Address | IPv6Address
Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

_REFUSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's metadata behind a public address
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")  # Teredo and others, examples, 6to4, examples
)
_NAT64 = IPv6Network("64:ff9b::/96")
_NUMBER = re.compile(r"\d+|0[xX][0-9a-fA-F]*")
_UNKNOWN_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)


def read_networks(text: str) -> tuple[Network, ...]:
    """Read ``10.1.0.0/16,fd00::/8,...``. Raises INVALID_SETTING."""
    try:
        return tuple(ip_network(network) for part in text.split(",") if (network := part.strip()))
    except ValueError as exc:
        raise error(ErrorCode.INVALID_SETTING, f"fetch_networks: {exc}", "Give networks like 10.1.0.0/16.") from None


def is_allowed(text: str, port: int, policy: FetchPolicy) -> bool:
    """Say whether a port of an address may be reached; text that is not an address may not."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    address = _inner(address)
    if any(address in network for network in policy.allow_networks if network.version == address.version):
        return True
    return port in policy.public_ports and _is_public(address)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _REFUSED_V6)


def _inner(address: Address) -> Address:
    """Unwrap the IPv4 address of an IPv4-mapped or NAT64 one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def check_spelling(host: str) -> None:
    """Raise SOURCE_FORBIDDEN for an IPv4 address in decimal, octal, hexadecimal or shortened spelling."""
    if ":" in host or not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return
    try:
        IPv4Address(host)
    except ValueError:
        raise error(ErrorCode.SOURCE_FORBIDDEN, f"{show(host)} is an unusual spelling of an IP address") from None


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Return every address of a host, in the system's order; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def addresses_of(host: str, port: int, policy: FetchPolicy, resolve: Resolver) -> Sequence[str]:
    """Resolve a host once and return its addresses.

    Raises SOURCE_FORBIDDEN when one of them is refused, SOURCE_NOT_FOUND for an unknown name, or SOURCE_UNAVAILABLE.
    """
    check_spelling(host)
    try:
        addresses: Sequence[str] = [str(ip_address(host))]
    except ValueError:
        addresses = await _resolved(host, port, policy, resolve)
    if not addresses:
        raise error(ErrorCode.SOURCE_NOT_FOUND, f"the host {show(host)} has no address")
    if all(is_allowed(address, port, policy) for address in addresses):
        return addresses
    raise refusal(host, port, addresses, policy)


def refusal(host: str, port: int, addresses: Sequence[str], policy: FetchPolicy) -> SoundfleetError:
    """Return the error of a host that may not be reached."""
    # Which address it is stays here: whoever submits a job need not learn the names of this network.
    usual = all(is_allowed(address, policy.public_ports[0], policy) for address in addresses)
    where = f"port {port} of {show(host)}" if usual else f"{show(host)} is not on the public internet and"
    return error(ErrorCode.SOURCE_FORBIDDEN, f"{where} may not be reached from here")


async def _resolved(host: str, port: int, policy: FetchPolicy, resolve: Resolver) -> Sequence[str]:
    try:
        async with asyncio.timeout(policy.connect_sec):
            return await resolve(host, port)
    except OSError as exc:  # TimeoutError too
        unknown = isinstance(exc, socket.gaierror) and exc.errno in _UNKNOWN_NAME
        code = ErrorCode.SOURCE_NOT_FOUND if unknown else ErrorCode.SOURCE_UNAVAILABLE
        reason = exc.strerror or "no answer in time"
        raise error(code, f"the host {show(host)} cannot be resolved: {reason}") from exc
