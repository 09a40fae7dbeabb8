"""Fetching over TLS, and that the connection goes where the guard looked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest

from soundfleet_schemas import ErrorCode, SoundfleetError
from soundfleet_worker.fetch import FetchPolicy, fetch_url
from soundfleet_worker.fetch.exchange import trust

TLS = Path(__file__).parents[1] / "tls"
BODY = b"sound"
POLICY = FetchPolicy((ip_network("127.0.0.1"),), read_sec=5.0)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tests' own authority in place of the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
    trust.cache_clear()
    yield
    trust.cache_clear()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A TLS server on 127.0.0.1 whose certificate is for files.test and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if b" /down " in request:
            writer.write(b"HTTP/1.1 301 X\r\nLocation: http://files.test/\r\nContent-Length: 0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + BODY)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def here(_host: str, _port: int) -> Sequence[str]:
    """Resolve every name to this machine."""
    return ["127.0.0.1"]


async def fetch(url: str, directory: Path) -> bytes:
    """Fetch into a directory; return the file."""
    await fetch_url(url, directory / "in", 100, POLICY, resolve=here)
    return (directory / "in").read_bytes()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("host", ["files.test", "127.0.0.1"])
async def test_a_file_comes_over_tls(host: str, port: int, tmp_path: Path) -> None:
    """The certificate is that of the name in the address, though the connection goes to the checked address."""
    assert await fetch(f"https://{host}:{port}/", tmp_path) == BODY


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(("host", "path"), [("other.test", "/"), ("files.test", "/down")])
async def test_another_name_and_a_downgrade_are_refused(host: str, path: str, port: int, tmp_path: Path) -> None:
    """For good: a retry would meet the same."""
    with pytest.raises(SoundfleetError, match=r"not trusted|plain http") as caught:
        await fetch(f"https://{host}:{port}{path}", tmp_path)
    assert caught.value.code is ErrorCode.SOURCE_FORBIDDEN
    assert not (tmp_path / "in").exists()


async def test_an_authority_that_nobody_knows_is_refused(port: int, tmp_path: Path) -> None:
    """There is no switch for it; SSL_CERT_FILE names others."""
    trust.cache_clear()
    with pytest.raises(SoundfleetError, match="not trusted") as caught:
        await fetch(f"https://files.test:{port}/", tmp_path)
    assert caught.value.code is ErrorCode.SOURCE_FORBIDDEN


@pytest.mark.usefixtures("trusted")
async def test_plain_http_to_a_tls_port_and_the_other_way_are_typed(port: int, tmp_path: Path) -> None:
    """Neither is an error of ours."""
    server = await asyncio.start_server(lambda _r, w: w.write(b"HTTP/1.1 400 X\r\n\r\n"), "127.0.0.1", 0)
    async with server:
        for url in (f"http://files.test:{port}/", f"https://files.test:{server.sockets[0].getsockname()[1]}/"):
            with pytest.raises(SoundfleetError) as caught:
                await fetch(url, tmp_path)
            assert caught.value.code is ErrorCode.SOURCE_UNAVAILABLE


@pytest.mark.usefixtures("trusted")
async def test_the_connection_goes_to_the_address_that_was_checked(port: int, tmp_path: Path) -> None:
    """A name that is rebound after the check is not asked again; the next fetch checks the new answer."""
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return answers.pop(0)

    url = f"https://files.test:{port}/"
    await fetch_url(url, tmp_path / "in", 100, POLICY, resolve=resolve)
    assert answers == [["127.0.0.2"]]
    with pytest.raises(SoundfleetError, match="not on the public internet"):
        await fetch_url(url, tmp_path / "in", 100, POLICY, resolve=resolve)


@pytest.mark.usefixtures("trusted")
async def test_the_next_address_is_tried_when_one_is_dead(port: int, tmp_path: Path) -> None:
    """All of them were checked."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.9", "127.0.0.1"]

    policy = FetchPolicy((ip_network("127.0.0.0/8"),))
    await fetch_url(f"https://files.test:{port}/", tmp_path / "in", 100, policy, resolve=resolve)
    assert (tmp_path / "in").read_bytes() == BODY
