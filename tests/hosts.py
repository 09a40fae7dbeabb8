"""A host on loopback that says whatever bytes a test wants, and what a fetch from it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from soundfleet_schemas import SoundfleetError
from soundfleet_worker.fetch import FetchPolicy, fetch_url

MAX_BYTES = 5000
POLICY = FetchPolicy((ip_network("127.0.0.1"),), read_sec=5.0)

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Host:
    """A server on 127.0.0.1 that sends the bytes of ``answers`` by path, or lets ``handler`` write."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self.answers = answers
        self.port = 0
        self.handler: Handler | None = None
        self.requests: list[bytes] = []
        self.open = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(request)
            if self.handler is not None:
                await self.handler(request, writer)
            else:
                path = request.split()[1].decode().partition("?")[0]
                writer.write(self.answers[path].replace(b"{port}", str(self.port).encode()))
                await writer.drain()
        except ConnectionError:  # the other side has seen enough
            pass
        finally:
            self.open -= 1
            writer.close()


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", *headers, "", ""]).encode("latin-1") + body


@asynccontextmanager
async def hosting(answers: Mapping[str, bytes]) -> AsyncIterator[Host]:
    """A host that listens."""
    host = Host(answers)
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    async with server:
        host.port = server.sockets[0].getsockname()[1]
        yield host


def files(directory: Path) -> list[str]:
    """Names of what is there."""
    return [file.name for file in directory.iterdir()]


async def refused(url: str, directory: Path, policy: FetchPolicy = POLICY) -> SoundfleetError:
    """Fetch what cannot be fetched; return the error, and see that nothing is left."""
    with pytest.raises(SoundfleetError) as caught:
        await fetch_url(url, directory / "in", MAX_BYTES, policy)
    assert not files(directory)
    return caught.value
