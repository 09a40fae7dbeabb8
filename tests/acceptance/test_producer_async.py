"""``AsyncProducer``: the same operations, awaited, and the loop is never held up."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.hands import Hands
from tests.stacks import Stack

from soundfleet_producer import AsyncProducer, GenerationRequest, Producer, SeparationRequest
from soundfleet_schemas import ErrorCode, JobStatus, QueueError, SourceError, StemSeparationOptions


@pytest.fixture
async def async_fleet(stack: Stack) -> AsyncIterator[AsyncProducer]:
    """An asynchronous client of the test's corner."""
    async with AsyncProducer(stack.settings, stack.storage) as client:
        yield client


def _request() -> GenerationRequest:
    return GenerationRequest(prompt="warm lofi", duration_sec=30)


def test_both_faces_have_the_same_methods_with_the_same_parameters() -> None:
    """What is written for one is written for the other."""

    def face(client: type) -> dict[str, list[str]]:
        members = inspect.getmembers(client, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in members if not name.startswith("_")}

    assert face(Producer) == face(AsyncProducer)


async def test_a_job_is_submitted_watched_and_fetched(async_fleet: AsyncProducer, hands: Hands, tmp_path: Path) -> None:
    """The whole life of a job through the asynchronous face."""
    job_id = (await async_fleet.submit(_request())).id
    token = hands.claim().token
    hands.report(token, 40)
    hands.complete(token, {"drums": b"boom"})
    told = [event.type async for event in async_fleet.watch(job_id)]
    assert told == ["submitted", "claimed", "progress", "completed"]
    assert (await async_fleet.result(job_id)).cdn_urls
    paths = await async_fleet.download(job_id, tmp_path)
    assert [path.name for path in paths] == ["drums.wav", "manifest.json"]


async def test_watching_does_not_hold_up_the_loop(async_fleet: AsyncProducer, hands: Hands) -> None:
    """While one task waits for events, another settles the job."""
    job_id = (await async_fleet.submit(_request())).id

    async def listen() -> list[str]:
        return [event.type async for event in async_fleet.watch(job_id)]

    listener = asyncio.create_task(listen())
    token = hands.claim().token
    await asyncio.to_thread(hands.complete, token, {"drums": b"boom"})
    assert (await asyncio.wait_for(listener, 30))[-1] == "completed"


async def test_a_watch_that_is_left_early_frees_its_connection(async_fleet: AsyncProducer, stack: Stack) -> None:
    """Closing the iterator closes its connection to Redis."""
    job_id = (await async_fleet.submit(_request())).id
    before = len(stack.redis.client_list())
    async with aclosing(async_fleet.watch(job_id)) as events:
        await anext(events)
    assert len(stack.redis.client_list()) <= before


async def test_a_local_file_is_uploaded(async_fleet: AsyncProducer, stack: Stack, tmp_path: Path) -> None:
    """Hashing and uploading go on in a thread; the message is the same as the synchronous one."""
    song = tmp_path / "song.mp3"
    song.write_bytes(b"music")
    options = StemSeparationOptions(model="htdemucs_mini")
    request = SeparationRequest(source=str(song), options=options)
    await async_fleet.submit(request)
    with Producer(stack.settings, stack.storage) as blocking:
        assert blocking.submit(request).outcome == "exists"


async def test_errors_are_the_same(async_fleet: AsyncProducer, hands: Hands) -> None:
    """The job's own error, a timeout, an unknown job."""
    job_id = (await async_fleet.submit(_request())).id
    with pytest.raises(QueueError) as caught:
        await async_fleet.result(job_id, timeout=0.1)
    assert caught.value.code is ErrorCode.RESULT_TIMEOUT
    hands.fail(hands.claim().token)
    with pytest.raises(SourceError):
        await async_fleet.result(job_id)
    with pytest.raises(QueueError) as caught:
        await async_fleet.status("11111111-1111-4111-8111-111111111111")
    assert caught.value.code is ErrorCode.JOB_NOT_FOUND


async def test_the_lists_are_the_same(async_fleet: AsyncProducer, producer: Producer, hands: Hands) -> None:
    """Jobs, dead letters, workers and backends read alike through both faces."""
    for answer in await async_fleet.submit_many([_request(), _request(), _request()]):
        assert answer.status is JobStatus.pending  # type: ignore[union-attr]
    failed = hands.claim().token
    hands.fail(failed)
    assert await async_fleet.jobs() == producer.jobs()
    assert await async_fleet.counts() == producer.counts()
    assert await async_fleet.dead_letters() == producer.dead_letters()
    assert await async_fleet.dead_letter(failed.job_id) == producer.dead_letter(failed.job_id)
    assert await async_fleet.workers() == producer.workers() == []
    assert await async_fleet.backends() == producer.backends()
    again = await async_fleet.redrive(failed.job_id)
    assert await async_fleet.cancel(again.id) is JobStatus.cancelled
    assert await async_fleet.purge_dead() == 0
    assert await async_fleet.redrive_all() == []


async def test_a_watch_outlives_a_restart_of_redis(async_fleet: AsyncProducer, hands: Hands) -> None:
    """Nothing is lost and nothing is told twice when the server goes and comes back."""
    job_id = (await async_fleet.submit(_request())).id
    token = hands.claim().token
    told: list[str] = []
    both = asyncio.Event()

    async def listen() -> None:
        async for event in async_fleet.watch(job_id):
            told.append(event.type)
            if len(told) == 2:
                both.set()

    listener = asyncio.create_task(listen())
    await asyncio.wait_for(both.wait(), 30)
    await asyncio.to_thread(hands.stack.local.restart_redis)
    await asyncio.to_thread(hands.complete, token, {"drums": b"boom"})
    await asyncio.wait_for(listener, 60)
    assert told == ["submitted", "claimed", "completed"]
