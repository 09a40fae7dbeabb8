"""One GET request over a connection to a checked address; every failure of the network is a typed error."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import h11

from soundfleet_schemas import ErrorCode, error
from soundfleet_schemas.errors import show

from .policy import FetchPolicy
from .target import Target

_CHUNK_BYTES = 1 << 16


class Exchange:
    """A response whose head has arrived; ``read`` gives its body."""

    def __init__(self, stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], target: Target, policy: FetchPolicy):
        self._reader, self._writer = stream
        self._target = target
        self._policy = policy
        self._http = h11.Connection(h11.CLIENT)
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
            while not isinstance(event := await self._event(), h11.Response):
                if not isinstance(event, h11.InformationalResponse):
                    raise h11.RemoteProtocolError("no response")
        self.status = event.status_code
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}

    async def read(self) -> bytes:
        """Return some more of the body, or nothing at its end. Raises SOURCE_UNAVAILABLE."""
        with_errors = failures(self._target.host)
        async with with_errors, asyncio.timeout(self._policy.read_sec):
            event = await self._event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
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
        raise error(ErrorCode.SOURCE_UNAVAILABLE, f"the connection to {show(host)} failed: {exc}") from exc


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


async def _connect(
    target: Target, addresses: Sequence[str], policy: FetchPolicy
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=policy.ca_file) if target.scheme == "https" else None
    name = target.host if context else None
    failure: OSError = OSError("no address")
    for address in addresses[:4]:
        try:
            async with asyncio.timeout(policy.connect_sec):
                return await asyncio.open_connection(address, target.port, ssl=context, server_hostname=name)
        except ssl.SSLCertVerificationError:
            raise
        except OSError as exc:  # TimeoutError too: the next address may answer
            failure = exc
    raise failure
