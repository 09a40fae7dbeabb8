"""What a worker does on Redis outside the verbs: its record, its consumers, its orphans, finished work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from soundfleet_producer.connections import aconnect
from soundfleet_producer.queue.exchange import perform
from soundfleet_producer.queue.verbs import Claim, claim, settle_completed, submit
from soundfleet_schemas import (
    CATALOG,
    DEFAULT_LIMITS,
    GROUP,
    GenerationRequest,
    JobResult,
    Keys,
    Kind,
    Lane,
    Priority,
    WorkerInfo,
)
from soundfleet_worker.supervisor import consumers
from soundfleet_worker.supervisor.batcher import Batcher
from soundfleet_worker.supervisor.cache import Cache
from soundfleet_worker.supervisor.duties.heartbeat import Heartbeat
from soundfleet_worker.supervisor.orphans import release_orphans
from tests.stacks import Stack

LANE = Lane(Kind.generate, "sketch", Priority.Normal)
HIGH_LANE = Lane(Kind.generate, "sketch", Priority.High)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Any]:
    """An async client of the test's corner."""
    async with aconnect(stack.settings.redis_url) as connected:
        yield connected


def _submit(stack: Stack, number: int) -> str:
    request = GenerationRequest(prompt="p", duration_sec=5, backend="sketch", seed=number)
    return perform(stack.redis, submit(stack.keys, request, f"f{number}", DEFAULT_LIMITS)).id


def _claim(stack: Stack, worker: str, slots: int) -> list[Claim]:
    return perform(stack.redis, claim(stack.keys, worker, slots, [HIGH_LANE, LANE], DEFAULT_LIMITS)).jobs


def _result(job: Claim) -> JobResult:
    return JobResult(job_id=job.token.job_id, attempt=1, output_dir="", processing_time=1, model_used="m", file_size=0)


async def test_orphans_are_handed_back_and_nothing_else(stack: Stack, client: Any) -> None:
    """Of four claimed jobs one is in hand, one is another worker's, and two came in an answer that was lost."""
    for number in range(4):
        _submit(stack, number)
    mine = [job.token.job_id for job in _claim(stack, "me", 3)]
    (other,) = [job.token.job_id for job in _claim(stack, "you", 1)]
    released = await release_orphans(client, Batcher(client), stack.keys, DEFAULT_LIMITS, "me", {mine[0]})
    assert sorted(released) == sorted(mine[1:])
    leases = {raw.decode() for raw in stack.redis.zrange(stack.keys.leases, 0, -1)}
    assert leases == {mine[0], other}
    assert [job.tries for job in _claim(stack, "you", 4)] == [1, 1], "an orphan is not charged"


async def test_a_consumer_with_pending_entries_is_kept(stack: Stack, client: Any) -> None:
    """Taking it out would destroy the entries."""
    _submit(stack, 1)
    (job,) = _claim(stack, "me", 1)
    await consumers.drop_own(client, stack.keys, "me")
    (known,) = await consumers.list_consumers(client, stack.keys)
    assert (known.name, known.pending, known.lane) == ("me", 1, str(LANE))
    result = JobResult(
        job_id=job.token.job_id, attempt=1, output_dir="", processing_time=1, model_used="m", file_size=0
    )
    perform(stack.redis, settle_completed(stack.keys, job.token, result, None, DEFAULT_LIMITS))
    await consumers.drop_own(client, stack.keys, "me")
    assert await consumers.list_consumers(client, stack.keys) == []


async def test_consumers_of_workers_that_are_long_gone_are_taken_out(
    stack: Stack, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed worker cannot take its name away; one that still sends heartbeats keeps it."""
    _submit(stack, 1)
    lane = stack.keys.lane(LANE)
    stack.redis.xgroup_create(lane, GROUP, "0")
    for name in ("dead", "alive"):
        stack.redis.xgroup_createconsumer(lane, GROUP, name)
    stack.redis.set(stack.keys.worker("alive"), "{}", ex=60)
    await consumers.drop_dead(client, stack.keys, await consumers.list_consumers(client, stack.keys))
    assert len(await consumers.list_consumers(client, stack.keys)) == 2, "not before their time"
    monkeypatch.setattr(consumers, "DEAD_AFTER_MS", 0)
    await consumers.drop_dead(client, stack.keys, await consumers.list_consumers(client, stack.keys))
    assert [known.name for known in await consumers.list_consumers(client, stack.keys)] == ["alive"]


async def test_a_heartbeat_expires_when_it_stops_and_is_withdrawn_by_hand(stack: Stack, client: Any) -> None:
    """The record, the index, and the foreign backends."""
    now = datetime.now(UTC)

    def describe() -> WorkerInfo:
        return WorkerInfo(
            id="w", host="h", pid=1, device="cpu", version="0", started_at=now, seen_at=now, capacity=1, running=("j",)
        )

    foreign = {"mine": CATALOG["sketch"]}
    heartbeat = Heartbeat("w", stack.keys, client, describe=describe, foreign=lambda: foreign)
    await heartbeat.tick()
    assert 0 < stack.redis.ttl(stack.keys.worker("w")) <= 20
    assert stack.redis.zrange(stack.keys.workers, 0, -1) == [b"w"]
    assert stack.redis.hkeys(stack.keys.backends) == [b"mine"]
    await heartbeat.withdraw()
    assert not stack.redis.exists(stack.keys.worker("w"), stack.keys.workers)


async def test_finished_work_is_found_by_its_fingerprint(stack: Stack, client: Any) -> None:
    """Looked up together; what is not there, or no longer there, is None."""
    _submit(stack, 1)
    (job,) = _claim(stack, "me", 1)
    result = JobResult(
        job_id=job.token.job_id, attempt=1, output_dir="d", processing_time=1, model_used="m", file_size=0
    )
    perform(stack.redis, settle_completed(stack.keys, job.token, result, "known", DEFAULT_LIMITS))
    stack.redis.set(stack.keys.cache("stale"), "no-such-job", ex=60)
    cache = Cache(client, stack.keys)
    found = await asyncio.gather(*(cache.find(name) for name in ("known", "unknown", "stale")))
    assert found == [result, None, None]
    await cache.close()


async def test_a_cache_without_a_server_is_a_miss() -> None:
    """It saves work, and is never a reason to fail."""
    async with aconnect("redis://127.0.0.1:1/0") as nobody:
        assert await Cache(nobody, Keys("test")).find("x") is None
