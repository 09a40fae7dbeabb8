"""Fetching by URL against a real server on loopback: what arrives, what is refused, and that nothing is left."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from soundfleet_schemas import ErrorCode, SoundfleetError
from soundfleet_worker.fetch import FetchPolicy, fetch_url

BODY = b"sound" * 1000
MAX_BYTES = len(BODY)
POLICY = FetchPolicy((ip_network("127.0.0.1"),), read_sec=5.0)
HASTY = POLICY._replace(read_sec=0.3)


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", *headers, "", ""]).encode("latin-1") + body


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

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Host:
    """A server on 127.0.0.1 that sends the bytes of ``ANSWERS``, or lets ``handler`` write; it keeps the requests."""

    def __init__(self) -> None:
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
                writer.write(ANSWERS[path].replace(b"{port}", str(self.port).encode()))
                await writer.drain()
        except ConnectionError:  # the other side has seen enough
            pass
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A host whose answers the test chooses."""
    host = Host()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    async with server:
        host.port = server.sockets[0].getsockname()[1]
        yield host


def files(directory: Path) -> list[str]:
    """Names of what is there."""
    return [file.name for file in directory.iterdir()]


async def until(predicate: Callable[[], object]) -> None:
    """Let the loop run until something is true."""
    async with asyncio.timeout(10):
        while not predicate():  # noqa: ASYNC110 - what happens in files and sockets sets no event
            await asyncio.sleep(0.01)


async def refused(url: str, directory: Path, policy: FetchPolicy = POLICY) -> SoundfleetError:
    """Fetch what cannot be fetched; return the error, and see that nothing is left."""
    with pytest.raises(SoundfleetError) as caught:
        await fetch_url(url, directory / "in", MAX_BYTES, policy)
    assert not files(directory)
    return caught.value


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


def drip(head: bytes, drop: bytes, every_sec: float = 0.02) -> Handler:
    """Send a head at once, and the rest in drops for ever."""

    async def handle(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(every_sec)

    return handle


@pytest.mark.parametrize(
    ("head", "drop", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x", "does not answer in time"),
        (answer(200, "Content-Length: 5000"), b"", "does not answer in time"),
        (answer(200, "Transfer-Encoding: chunked") + b"1;", b"x", "does not answer in time"),
        (answer(200, "Content-Length: 5000"), b"x", "less than 4096 bytes a second"),
        (answer(200, "Transfer-Encoding: chunked"), b"1\r\nx\r\n", "less than 4096 bytes a second"),
    ],
)
async def test_a_host_that_drips_is_given_up(
    host: Host, tmp_path: Path, head: bytes, drop: bytes, message: str
) -> None:
    """In its head, in its silence, in a chunk's head, and in a body that never stands still."""
    host.handler = drip(head, drop)
    failure = await refused(host.url("/"), tmp_path, HASTY._replace(rate_after_sec=0.2))
    assert failure.code is ErrorCode.SOURCE_UNAVAILABLE
    assert message in str(failure)


async def test_the_whole_has_its_time(host: Host, tmp_path: Path) -> None:
    """Whatever the parts take."""
    host.handler = drip(answer(200, "Content-Length: 5000"), b"x")
    failure = await refused(host.url("/"), tmp_path, POLICY._replace(total_sec=0.3))
    assert failure.code is ErrorCode.SOURCE_UNAVAILABLE
    assert "took over 0.3 s" in str(failure)


async def test_a_flood_of_tiny_chunks_lets_others_work(host: Host, tmp_path: Path) -> None:
    """The worker's leases are renewed in the same loop."""
    host.handler = drip(answer(200, "Transfer-Encoding: chunked"), b"1\r\nx\r\n" * 20_000, 0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    failure = await refused(host.url("/"), tmp_path)
    counting.cancel()
    assert failure.code is ErrorCode.FILE_TOO_LARGE
    assert turns >= MAX_BYTES, "the loop went round for every chunk"


async def test_a_cancelled_fetch_leaves_nothing(host: Host, tmp_path: Path) -> None:
    """No file, and no connection, at once."""
    host.handler = drip(answer(200, "Content-Length: 5000"), b"x")
    task = asyncio.create_task(fetch_url(host.url("/"), tmp_path / "in", MAX_BYTES, POLICY))
    await until(lambda: files(tmp_path))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not files(tmp_path)
    await until(lambda: not host.open)


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
