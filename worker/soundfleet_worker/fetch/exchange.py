"""One GET request over a connection to a checked address; every failure of the network is a typed error."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache

import h11

from soundfleet_schemas import ErrorCode, error
from soundfleet_schemas.errors import show

from .policy import FetchPolicy
from .target import Target

_CHUNK_BYTES = 1 << 16
_HEAD_BYTES = 1 << 16
"""Longest head of a response, or of one chunk of it."""
_MOST_INTERIM = 8
"""Responses of class 1xx before the one that counts."""
_MOST_ADDRESSES = 4


class Exchange:
    """A response whose head has arrived; ``read`` gives its body."""

    def __init__(self, stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], target: Target, policy: FetchPolicy):
        self._reader, self._writer = stream
        self._target = target
        self._policy = policy
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        self.status = 0
        self.headers: dict[str, str] = {}

    async def ask(self) -> None:
        """Send the request and read the head of the response."""
        headers = [("Host", self._target.authority), ("Accept", "*/*"), ("Accept-Encoding", "identity")]
        headers += [("User-Agent", "soundfleet"), ("Connection", "close")]
        request = h11.Request(method="GET", target=self._target.path, headers=headers)
        self._writer.write((self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        async with asyncio.timeout(self._policy.read_sec):
            await self._writer.drain()
            response = await self._final_response()
        self.status = response.status_code
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}

    async def _final_response(self) -> h11.Response:
        for _ in range(_MOST_INTERIM + 1):
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                break
        raise h11.RemoteProtocolError("no response")

    async def read(self) -> bytes:
        """Return some more of the body, or nothing at its end. Raises SOURCE_UNAVAILABLE."""
        async with failures(self._target.host), asyncio.timeout(self._policy.read_sec):
            event = await self._event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        await asyncio.sleep(0)  # a flood of tiny chunks is parsed without waiting, and others want their turn
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_CHUNK_BYTES))
        return event


@asynccontextmanager
async def failures(host: str) -> AsyncIterator[None]:
    """Raise SOURCE_FORBIDDEN for an untrusted certificate and SOURCE_UNAVAILABLE for all else that a network does."""
    try:
        yield
    except ssl.SSLCertVerificationError as exc:  # a retry meets the same certificate
        message = f"the certificate of {show(host)} is not trusted: {exc.verify_message}"
        raise error(ErrorCode.SOURCE_FORBIDDEN, message) from exc
    except TimeoutError as exc:
        raise error(ErrorCode.SOURCE_UNAVAILABLE, f"{show(host)} does not answer in time") from exc
    except (OSError, h11.RemoteProtocolError) as exc:
        raise error(ErrorCode.SOURCE_UNAVAILABLE, f"the connection to {show(host)} failed: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    """What went wrong, shortly: h11 quotes what it was sent, and an OSError the address, which may be a private one."""
    return str(exc)[:80] if isinstance(exc, h11.RemoteProtocolError) else type(exc).__name__


@asynccontextmanager
async def get(target: Target, addresses: Sequence[str], policy: FetchPolicy) -> AsyncIterator[Exchange]:
    """Connect to one of ``addresses`` and to nothing else, ask, and close at the end."""
    async with failures(target.host):
        stream = await _connect(target, addresses, policy)
    try:
        exchange = Exchange(stream, target, policy)
        async with failures(target.host):
            await exchange.ask()
        yield exchange
    finally:
        stream[1].transport.abort()  # also where the other side would not let go


@cache
def trust() -> ssl.SSLContext:
    """The system's certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR; read once, since that takes a while."""
    return ssl.create_default_context()


async def _connect(
    target: Target, addresses: Sequence[str], policy: FetchPolicy
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = trust() if target.scheme == "https" else None
    name = target.host if context else None
    failure: OSError = OSError("no address")
    for address in addresses[:_MOST_ADDRESSES]:
        try:
            async with asyncio.timeout(policy.connect_sec):
                return await asyncio.open_connection(address, target.port, ssl=context, server_hostname=name)
        except ssl.SSLCertVerificationError:
            raise
        except OSError as exc:  # TimeoutError too: the next address may answer
            failure = exc
    raise failure
