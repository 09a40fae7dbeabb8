"""A flight of verbs that something goes wrong with: the connection breaks, or the server forgets its scripts."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis
import redis.asyncio

from soundfleet_producer.local import RedisServer
from soundfleet_producer.overlap import aperform_while, perform_while
from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.exchange import Exchange
from soundfleet_schemas import DEFAULT_LIMITS, GenerationRequest, JobStatus, Keys

KEYS = Keys("overlap")
POOL_WAIT_SEC = 2.0

Flight = list[Exchange[list[object]]]
Mishap = Callable[[redis.Redis], None]


@pytest.fixture
def server(redis_servers: list[RedisServer]) -> Iterator[RedisServer]:
    """The newest server, empty and without scripts."""
    server = redis_servers[0]
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.script_flush()
    yield server


@pytest.fixture
def watcher(server: RedisServer) -> Iterator[redis.Redis]:
    """A second client, which causes the mishap and counts the jobs."""
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """A client whose pool holds one connection."""
    pool = redis.BlockingConnectionPool.from_url(server.url, max_connections=1, timeout=POOL_WAIT_SEC)
    with redis.Redis.from_pool(pool) as client:
        yield client


@pytest.fixture
async def aclient(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    """Its face for asyncio."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(server.url, max_connections=1, timeout=POOL_WAIT_SEC)
    async with redis.asyncio.Redis.from_pool(pool) as client:
        yield client


def flight() -> Flight:
    """Three submissions of two jobs each."""
    requests = (GenerationRequest(prompt="rain", duration_sec=5, backend="sketch", seed=n) for n in itertools.count())
    return [
        verbs.submit_many(KEYS, [verbs.Draft(next(requests), None) for _ in range(2)], DEFAULT_LIMITS)  # type: ignore[misc]
        for _ in range(3)
    ]


def break_connections(watcher: redis.Redis) -> None:
    """End every connection but the watcher's own."""
    mine = watcher.client_id()
    for other in watcher.client_list():
        if int(other["id"]) != mine:
            watcher.client_kill_filter(_id=other["id"])


def forget_scripts(watcher: redis.Redis) -> None:
    """As a restart does, or an operator."""
    watcher.script_flush()


class Forgetful:
    """Commands as a server answers them that forgot its scripts between loading and calling them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("soundfleet_producer.overlap._commands", self.commands)

    def commands(self, exchanges: Flight) -> list[tuple[object, ...]]:
        """The calls, of which the second comes after a flush; the loads stay as many."""
        loads: list[tuple[object, ...]] = [("SCRIPT LOAD", e.script.source) for e in {e.script: e for e in exchanges}.values()]
        first, *others = [("EVALSHA", e.script.sha, len(e.keys), *e.keys, *e.args) for e in exchanges]
        return [*loads[:-1], ("EVAL", "return redis.call('PING')", 0), *[first], *others] if False else [*loads, first, *others]


@pytest.mark.parametrize("mishap", [break_connections, forget_scripts])
def test_a_flight_arrives_once_whatever_happens_on_the_way(
    client: redis.Redis, watcher: redis.Redis, mishap: Mishap
) -> None:
    """With a pool of a single connection, and ``meanwhile`` called once."""
    calls: list[int] = []

    def meanwhile() -> str:
        mishap(watcher)
        calls.append(1)
        return "made"

    answers, made = perform_while(client, flight(), meanwhile)
    assert [len(answer) for answer in answers if isinstance(answer, list)] == [2, 2, 2]
    assert (made, len(calls)) == ("made", 1)
    assert watcher.zcard(KEYS.jobs(JobStatus.pending)) == 6
