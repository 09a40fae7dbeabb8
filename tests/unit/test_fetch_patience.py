"""How long a host that does not get on is waited for, and that the loop serves others meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.hosts import MAX_BYTES, POLICY, Handler, Host, answer, files, hosting, refused

from soundfleet_schemas import ErrorCode
from soundfleet_worker.fetch import fetch_url

HASTY = POLICY._replace(read_sec=0.3)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A host whose handler the test chooses."""
    async with hosting({}) as host:
        yield host


async def until(predicate: Callable[[], object]) -> None:
    """Let the loop run until something is true."""
    async with asyncio.timeout(10):
        while not predicate():  # noqa: ASYNC110 - what happens in files and sockets sets no event
            await asyncio.sleep(0.01)


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
