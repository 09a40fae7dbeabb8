"""A flight of verbs that something goes wrong with: the connection breaks, or the server forgets its scripts."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
import redis.asyncio

from soundfleet_producer import overlap
from soundfleet_producer.local import RedisServer
from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.exchange import Exchange, script
from soundfleet_schemas import DEFAULT_LIMITS, GenerationRequest, JobStatus, Keys, SoundfleetError

KEYS = Keys("overlap")
POOL_WAIT_SEC = 2.0
PAUSE_MS = 60_000
"""Of writing; a test ends it."""

Mishap = Callable[[redis.Redis], None]


@pytest.fixture
def server(redis_servers: list[RedisServer]) -> RedisServer:
    """The newest server, empty and without scripts."""
    server = redis_servers[0]
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        client.script_flush()
    return server


@pytest.fixture
def watcher(server: RedisServer) -> Iterator[redis.Redis]:
    """A second client, which causes the mishap and counts the jobs."""
    with redis.Redis.from_url(server.url) as client:
        yield client
        client.client_unpause()


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


def flight() -> list[Exchange[Any]]:
    """Two submissions of two jobs each, another verb, and a third submission."""
    drafts = (
        verbs.Draft(GenerationRequest(prompt="rain", duration_sec=5, backend="sketch", seed=seed), None)
        for seed in itertools.count()
    )
    one, two, three = (verbs.submit_many(KEYS, [next(drafts), next(drafts)], DEFAULT_LIMITS) for _ in range(3))
    return [one, two, verbs.promote(KEYS), three]


def shape(answers: list[Any]) -> list[Any]:
    """What a flight was answered: outcomes per submission, other answers as they are."""
    return [[one.outcome for one in answer] if isinstance(answer, list) else answer for answer in answers]


CREATED = ["created", "created"]


def break_connections(watcher: redis.Redis) -> None:
    """End every connection but the watcher's own, before the server has come to what was sent over it."""
    mine = watcher.client_id()
    for other in watcher.client_list():
        if int(other["id"]) != mine:
            watcher.client_kill_filter(_id=other["id"])
    watcher.client_unpause()


def nothing(watcher: redis.Redis) -> None:
    """All goes well, after the pause."""
    watcher.client_unpause()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flight into which another client's SCRIPT FLUSH falls: submit is unknown by then, the rest was loaded later."""

    def commands(exchanges: Sequence[Exchange[Any]]) -> list[tuple[Any, ...]]:
        lost = ("SCRIPT LOAD", script("submit").source)
        return [("SCRIPT FLUSH",), *(command for command in sent(exchanges) if command != lost)]

    sent = overlap._commands
    monkeypatch.setattr(overlap, "_commands", commands)


@pytest.mark.parametrize("mishap", [nothing, break_connections])
def test_a_flight_arrives_once_though_the_connection_breaks(
    client: redis.Redis, watcher: redis.Redis, mishap: Mishap
) -> None:
    """The pool's only connection is given back before the flight is sent again; ``meanwhile`` is called once."""
    watcher.client_pause(PAUSE_MS, all=False)
    calls: list[Mishap] = []

    def meanwhile() -> str:
        mishap(watcher)
        calls.append(mishap)
        return "made"

    answers, made = overlap.perform_while(client, flight(), meanwhile)
    assert shape(answers)[2] == 0
    assert all(len(answer) == 2 for answer in answers if isinstance(answer, list))
    assert not any(isinstance(answer, SoundfleetError) for answer in answers)
    assert (made, len(calls)) == ("made", 1)
    assert watcher.zcard(KEYS.jobs(JobStatus.pending)) == 6


@pytest.mark.parametrize("mishap", [nothing, break_connections])
async def test_a_flight_of_asyncio_arrives_once_though_the_connection_breaks(
    aclient: redis.asyncio.Redis, watcher: redis.Redis, mishap: Mishap
) -> None:
    """The same over the other face."""
    watcher.client_pause(PAUSE_MS, all=False)
    answers, _ = await overlap.aperform_while(aclient, flight(), lambda: mishap(watcher))
    assert not any(isinstance(answer, SoundfleetError) for answer in answers)
    assert watcher.zcard(KEYS.jobs(JobStatus.pending)) == 6


@pytest.mark.usefixtures("forgetful")
def test_a_script_that_was_flushed_in_flight_is_sent_again(client: redis.Redis, watcher: redis.Redis) -> None:
    """Each answer in its place, and no job twice."""
    answers, made = overlap.perform_while(client, flight(), lambda: "made")
    assert shape(answers) == [CREATED, CREATED, 0, CREATED]
    assert made == "made"
    assert watcher.zcard(KEYS.jobs(JobStatus.pending)) == 6


@pytest.mark.usefixtures("forgetful")
async def test_a_script_that_was_flushed_in_flight_is_sent_again_by_asyncio(
    aclient: redis.asyncio.Redis, watcher: redis.Redis
) -> None:
    """The same over the other face."""
    answers, _ = await overlap.aperform_while(aclient, flight(), lambda: None)
    assert shape(answers) == [CREATED, CREATED, 0, CREATED]
    assert watcher.zcard(KEYS.jobs(JobStatus.pending)) == 6
