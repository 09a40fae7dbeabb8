"""Fetching by URL against a real server on loopback: what arrives, what is refused, and that nothing is left."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.hosts import MAX_BYTES, POLICY, Host, answer, files, hosting, refused

from soundfleet_schemas import ErrorCode
from soundfleet_worker.fetch import fetch_url

BODY = b"sound" * 1000


def moved(to: str, status: int = 302) -> bytes:
    return answer(status, f"Location: {to}", "Content-Length: 0")


ANSWERS = {
    "/ok.wav": answer(200, "Content-Length: 5000", "Content-Type: Audio/WAV; x=y", body=BODY),
    "/chunked": answer(200, "Transfer-Encoding: chunked", body=b"9c4\r\n%b\r\n" % BODY[:2500] * 2 + b"0\r\n\r\n"),
    "/until-closed": answer(200, body=BODY),
    "/http10": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "/interim": answer(103, "Link: </x>") + answer(200, "Content-Length: 5000", body=BODY),
    "/lavish": answer(200, "Content-Length: 5000", body=BODY + answer(200, "Content-Length: 9", body=b"an intrud")),
    "/long": answer(200, "Content-Length: 5001"),
    "/stream": answer(200, body=BODY + b"!"),
    "/chunks": answer(200, "Transfer-Encoding: chunked", body=b"fa0\r\n%b\r\n" % (b"x" * 4000) * 2),
    "/huge": answer(200, "Content-Length: 99999999999999999999"),
    "/cut": answer(200, "Content-Length: 5000", body=b"short"),
    "/cut-chunk": answer(200, "Transfer-Encoding: chunked", body=b"fa0\r\nxyz"),
    "/two-lengths": answer(200, "Content-Length: 5", "Content-Length: 6", body=b"123456"),
    "/no-number": answer(200, "Content-Length: " + "9" * 5000),
    "/gzip": answer(200, "Content-Encoding: gzip", "Content-Length: 1", body=b"x"),
    "/packed": answer(200, "Transfer-Encoding: gzip, chunked", body=b"x"),
    "/long-head": answer(200, "X-Long: " + "x" * 300_000),
    "/endless-head": answer(200, *["X-Many: x"] * 20_000),
    "/interims": answer(100) * 1000 + answer(200, "Content-Length: 5000", body=BODY),
    "/upgrade": answer(101, "Upgrade: websocket", "Connection: upgrade"),
    "/bad-head": b"HTTP/1.1 200 OK\r\n" + b"(" * 50_000 + b"\r\n\r\n",
    "/rubbish": b"220 files.test ESMTP\r\n" * 10,
    "/nothing": b"",
    "/move": moved("ok.wav"),
    "/move308": moved("//127.0.0.1:{port}/move?a=b c\u00fc", 308),
    "/loop": moved("/loop"),
    "/inside": moved("http://10.0.0.1/"),
    "/metadata": moved("http://[::ffff:169.254.169.254]/"),
    "/port": moved("http://8.8.8.8:22/"),
    "/login": moved("http://u:p@127.0.0.1:{port}/ok.wav"),
    "/file": moved("file:///etc/passwd"),
    "/bracket": moved("http://[::1"),
    "/nowhere": answer(302, "Content-Length: 0"),
} | {f"/{status}": answer(status, "Content-Length: 0") for status in (204, 206, 401, 403, 404, 410, 429, 451, 500, 503)}
WHOLE = "/ok.wav /chunked /until-closed /http10 /interim /lavish /move /move308 /ok.wav?a=%2F&b=ä#c"
REFUSALS = {
    ErrorCode.SOURCE_UNAVAILABLE: (
        "/cut /cut-chunk /two-lengths /no-number /packed /long-head /endless-head /bad-head /interims /upgrade /rubbish"
        " /nothing /429 /500 /503"
    ),
    ErrorCode.FILE_TOO_LARGE: "/long /stream /chunks /huge",
    ErrorCode.UNSUPPORTED_FORMAT: "/gzip",
    ErrorCode.SOURCE_NOT_FOUND: "/loop /nowhere /204 /206 /404 /410",
    ErrorCode.SOURCE_FORBIDDEN: "/401 /403 /451 /inside /metadata /port /login /file /bracket",
}


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A host whose answers the test chooses."""
    async with hosting(ANSWERS) as host:
        yield host


@pytest.mark.parametrize("path", WHOLE.split())
async def test_a_file_arrives_whole_and_hashed(host: Host, tmp_path: Path, path: str) -> None:
    """However its end is marked, behind redirects too, and not a byte of what follows it."""
    got = await fetch_url(host.url(path), tmp_path / "in", MAX_BYTES, POLICY)
    assert files(tmp_path) == ["in"]
    assert (tmp_path / "in").read_bytes() == BODY
    assert (got.size_bytes, got.sha256, got.host) == (len(BODY), hashlib.sha256(BODY).hexdigest(), "127.0.0.1")


@pytest.mark.parametrize(("path", "total"), [("/ok.wav", 5000), ("/chunked", None)])
async def test_what_has_come_is_told_as_it_comes(host: Host, tmp_path: Path, path: str, total: int | None) -> None:
    """With the whole, where the host says it."""
    told: list[tuple[int, int | None]] = []
    await fetch_url(host.url(path), tmp_path / "in", MAX_BYTES, POLICY, on_progress=lambda *news: told.append(news))
    assert told[-1] == (len(BODY), total)
    assert told == sorted(told, key=lambda news: news[0])


async def test_a_request_says_no_more_than_it_must(host: Host, tmp_path: Path) -> None:
    """No credential, no cookie, no compression; whatever the address holds stays in the first line."""
    await fetch_url(host.url('/ok.wav?q=%0d%0aX:%20y"<>'), tmp_path / "in", MAX_BYTES, POLICY)
    first, *headers = host.requests[0].decode().rstrip().split("\r\n")
    assert first == "GET /ok.wav?q=%0d%0aX:%20y%22%3C%3E HTTP/1.1"
    assert {header.partition(":")[0] for header in headers} == {
        "Host", "Accept", "Accept-Encoding", "User-Agent", "Connection",
    }  # fmt: skip
    assert "Accept-Encoding: identity" in headers
    assert f"Host: 127.0.0.1:{host.port}" in headers


@pytest.mark.parametrize(("code", "path"), [(code, path) for code in REFUSALS for path in REFUSALS[code].split()])
async def test_a_failure_is_typed_and_leaves_nothing(host: Host, tmp_path: Path, code: ErrorCode, path: str) -> None:
    """One row for each answer of a host."""
    failure = await refused(host.url(path), tmp_path)
    assert failure.code is code
    assert len(str(failure)) < 300, "it does not quote what the host sent at length"


@pytest.mark.parametrize("text", ["/x y", "/x\r\nX: y", "/x\x00", "/" + "x" * 2048])
async def test_an_address_that_could_carry_a_header_is_refused(host: Host, tmp_path: Path, text: str) -> None:
    """Before anything is sent."""
    assert (await refused(host.url(text), tmp_path)).code is ErrorCode.INVALID_SOURCE
    assert not host.requests


@pytest.mark.parametrize("url", ["http://user@{}/", "http://user:secret@{}/", "http://@{}/", "http://x\\@{}/"])
async def test_a_user_name_in_an_address_is_refused_and_not_repeated(host: Host, tmp_path: Path, url: str) -> None:
    """A password would be in the job's record, and in the message."""
    failure = await refused(url.format(f"127.0.0.1:{host.port}"), tmp_path)
    assert failure.code is ErrorCode.INVALID_SOURCE
    assert "secret" not in str(failure)
    assert not host.requests


async def test_nobody_listens(tmp_path: Path) -> None:
    """A refused connection may be another time's."""
    with socket.socket() as free:  # bound, so that nobody else takes it, and not listening
        free.bind(("127.0.0.1", 0))
        failure = await refused(f"http://127.0.0.1:{free.getsockname()[1]}/", tmp_path)
    assert failure.code is ErrorCode.SOURCE_UNAVAILABLE
    assert "ConnectionRefusedError" in str(failure)


async def test_a_full_disk_is_not_the_hosts_fault(host: Host, tmp_path: Path) -> None:
    """It is told as what it is."""
    with pytest.raises(FileNotFoundError):
        await fetch_url(host.url("/ok.wav"), tmp_path / "gone" / "in", MAX_BYTES, POLICY)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("", "ok é.wav"),
        ("attachment", "ok é.wav"),
        ("attachment; filename=plain.wav", "plain.wav"),
        ('attachment; filename="a song; of two.wav"', "a song; of two.wav"),
        ("attachment; filename=\"x.wav\"; filename*=UTF-8''caf%C3%A9%0A.wav", "café.wav"),
        ('attachment; filename="..\\..\\C:\\boot.ini"', "boot.ini"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename*=undefined''%80", "ok é.wav"),
        ("attachment; filename*0*=idna''x; filename*00*=y", "ok é.wav"),
        ('attachment; filename="' + "x" * 1000 + '"', "x" * 255),
    ],
)
async def test_the_name_is_the_hosts_word_and_never_a_path(
    host: Host, tmp_path: Path, disposition: str, name: str
) -> None:
    """Of its header, else of the address; for people only."""

    async def handle(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, "Content-Type: Audio/WAV\x9b; x=y", f"Content-Disposition: {disposition}"))

    host.handler = handle
    got = await fetch_url(host.url("/a/ok%20%C3%A9.wav?b/c"), tmp_path / "in", MAX_BYTES, POLICY)
    assert (got.filename, got.content_type) == (name, "audio/wav")
