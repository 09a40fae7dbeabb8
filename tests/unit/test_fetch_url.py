"""Fetching by URL against a real server on loopback, and the guard by a table."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from soundfleet_schemas import ErrorCode, Limits, SoundfleetError
from soundfleet_worker.fetch import FetchPolicy, fetch_url
from soundfleet_worker.fetch.guard import is_allowed

BODY = b"sound" * 1000
LIMITS = Limits(max_file_bytes=len(BODY))
ANSWERS = {
    "/ok.wav": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nContent-Type: audio/wav\r\n\r\n" + BODY,
    "/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nshort",
    "/long": b"HTTP/1.1 200 OK\r\nContent-Length: 5001\r\n\r\n",
    "/stream": b"HTTP/1.1 200 OK\r\n\r\n" + BODY + b"!",
    "/gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
    "/move": b"HTTP/1.1 302 Found\r\nLocation: /ok.wav\r\nContent-Length: 0\r\n\r\n",
    "/loop": b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n",
    "/inside": b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n",
    "/slow": b"HTTP/1.1 200 OK\r\nContent-Le",
} | {f"/{status}": b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status for status in (401, 403, 404, 410, 429, 500)}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server on 127.0.0.1 that sends the bytes of ``ANSWERS``; it holds the slow one open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        writer.write(ANSWERS[path])
        if path == "/slow":
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def policy(port: int) -> FetchPolicy:
    """Allow one address and one port beside the usual."""
    return FetchPolicy(allow_networks=("127.0.0.1/32",), ports=(80, 443, port), read_sec=1.0)


async def test_a_file_arrives_whole_and_hashed(port: int, tmp_path: Path) -> None:
    """Also behind a redirect."""
    got = await fetch_url(f"http://127.0.0.1:{port}/move", tmp_path / "in", LIMITS, policy(port))
    assert (tmp_path / "in").read_bytes() == BODY
    assert (got.size_bytes, got.sha256, got.filename) == (len(BODY), hashlib.sha256(BODY).hexdigest(), "ok.wav")
    assert got.content_type == "audio/wav"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/cut", "SOURCE_UNAVAILABLE"),
        ("/slow", "SOURCE_UNAVAILABLE"),
        ("/429", "SOURCE_UNAVAILABLE"),
        ("/500", "SOURCE_UNAVAILABLE"),
        ("/long", "FILE_TOO_LARGE"),
        ("/stream", "FILE_TOO_LARGE"),
        ("/gzip", "UNSUPPORTED_FORMAT"),
        ("/loop", "SOURCE_NOT_FOUND"),
        ("/404", "SOURCE_NOT_FOUND"),
        ("/410", "SOURCE_NOT_FOUND"),
        ("/401", "SOURCE_FORBIDDEN"),
        ("/403", "SOURCE_FORBIDDEN"),
        ("/inside", "SOURCE_FORBIDDEN"),
    ],
)
async def test_a_failure_is_typed_and_leaves_nothing(port: int, tmp_path: Path, path: str, code: str) -> None:
    """One row for each answer of a host."""
    with pytest.raises(SoundfleetError) as caught:
        await fetch_url(f"http://127.0.0.1:{port}{path}", tmp_path / "in", LIMITS, policy(port))
    assert caught.value.code is ErrorCode(code)
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240


async def test_the_connection_goes_to_the_address_that_was_checked(port: int, tmp_path: Path) -> None:
    """A name that is rebound after the check is not asked again; it resolves nowhere else."""
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return answers.pop(0)

    url = f"http://rebound.invalid:{port}/ok.wav"
    await fetch_url(url, tmp_path / "in", LIMITS, policy(port), resolve=resolve)
    assert answers == [["127.0.0.2"]]
    with pytest.raises(SoundfleetError, match="not on the public internet"):
        await fetch_url(url, tmp_path / "in", LIMITS, policy(port), resolve=resolve)


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1", "[::ffff:7f00:1]", "[::1]"]
)
async def test_a_private_address_is_refused_in_every_spelling(host: str, tmp_path: Path) -> None:
    """By the default policy."""
    with pytest.raises(SoundfleetError) as caught:
        await fetch_url(f"http://{host}/", tmp_path / "in", LIMITS)
    assert caught.value.code is ErrorCode.SOURCE_FORBIDDEN


@pytest.mark.parametrize(
    "text",
    [
        "10.1.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "0.0.0.0",
        "240.0.0.1",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "64:ff9b::7f00:1",
        "::",
    ],
)
def test_an_address_off_the_internet_is_refused(text: str) -> None:
    """Wrapped ones too."""
    assert not is_allowed(text)


@pytest.mark.parametrize("text", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_a_public_address_is_allowed(text: str) -> None:
    """Wrapped ones too."""
    assert is_allowed(text)
