"""The lane of downloads: where a job with web addresses waits first, and how it goes on to its backend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.records import read_job
from soundfleet_schemas import (
    FETCH_WEB,
    ErrorCode,
    JobStatus,
    Lane,
    Limits,
    Priority,
    ProgressUpdate,
    QueueError,
    SeparationRequest,
    Stage,
    UploadSource,
    UrlSource,
    YouTubeSource,
    lane_of,
)

from .conftest import EMPTY, FETCHED, Queue

EXPIRED = Limits(lease_sec=0.0)


def test_a_job_with_a_web_address_waits_where_it_is_downloaded(queue: Queue) -> None:
    """And rings the bell of those who download: no engine is woken for it."""
    job = queue.submit(queue.web_request())
    assert queue.picture() == {**EMPTY, "waiting": [job], "pending": [job]}
    assert queue.waiting_in(queue.fetch_lanes[1]) == [job]
    assert queue.claim() == []
    assert queue.client.lrange(queue.keys.bell(FETCH_WEB), 0, -1) == [job.encode()]
    assert queue.client.exists(queue.keys.bell("generate.sketch")) == 0


@pytest.mark.parametrize("source", [UrlSource(url="https://a.org/b.wav"), YouTubeSource(url="https://youtu.be/x")])
@pytest.mark.parametrize("priority", list(Priority))
def test_any_web_address_among_the_sources_decides_the_lane(
    source: UrlSource | YouTubeSource, priority: Priority
) -> None:
    """A reference's as well; what lies in a bucket needs no download from the web."""
    upload = FETCHED["reference"]
    request = SeparationRequest(source=upload, priority=priority)
    assert str(lane_of(request)) == f"separate.htdemucs:{priority}"
    referring = msgspec.structs.replace(request, references={"drums": upload, "bass": source})
    assert str(lane_of(referring)) == f"fetch.web:{priority}"


def test_a_fetched_job_goes_on_to_its_backend_with_what_was_fetched(queue: Queue) -> None:
    """At the tail of its own priority: it has not had its turn there. No attempt is charged."""
    job = queue.submit(queue.web_request())
    before = queue.submit(use_cache=False)
    token = queue.take_fetch()
    assert queue.forward(token) is verbs.Reply.ok
    assert queue.picture() == {**EMPTY, "waiting": [before, job], "pending": [before], "processing": [job]}
    first, second = queue.claim("bob", 2)
    assert (first.token.job_id, first.fetched) == (before, b"")
    assert (second.token.job_id, second.token.attempt, second.tries, second.crashes) == (job, 2, 1, 0)
    assert msgspec.json.decode(second.fetched, type=dict[str, UploadSource]) == FETCHED
    assert queue.events(job) == ["claimed", "fetched", "claimed"]


@pytest.mark.parametrize("way", ["forwarded", "released", "lost", "retried"])
def test_a_job_that_waits_again_shows_no_stage(queue: Queue, way: str) -> None:
    """It is fetched, or its download is to be made again: nobody works on it."""
    job = queue.submit(queue.web_request())
    token = queue.take_fetch()
    progress = ProgressUpdate(track_id="", percent=0, current_step=3, total_steps=9, stage=Stage.fetch)
    queue.do(verbs.report(queue.keys, token, progress))
    assert queue.job(job)["stage"] == "fetch"
    match way:
        case "forwarded":
            queue.forward(token)
        case "released":
            queue.do(verbs.release(queue.keys, token, queue.limits))
        case "lost":
            queue.do(verbs.renew(queue.keys, token.worker, [token], EXPIRED))
            assert queue.reap() == [job]
        case _:
            queue.fail(token, 60.0)
    record = read_job(job, queue.client.hgetall(queue.keys.job(job)))
    assert (record.stage, record.worker, record.status) == (None, None, JobStatus.processing)


def test_a_job_that_came_to_an_engine_unfetched_is_handed_to_those_who_download(queue: Queue) -> None:
    """A publisher that knows of no such lane put it into its backend's."""
    request = queue.web_request()
    exchange = verbs.submit(queue.keys, request, None, queue.limits)
    exchange.args[4] = "generate.sketch:normal"
    queue.do(exchange)
    token = queue.take()
    assert queue.do(verbs.forward(queue.keys, token, lane_of(request), {}, queue.limits)) is verbs.Reply.ok
    assert queue.events(request.id) == ["claimed", "requeued"]
    assert queue.forward(queue.take_fetch("bob")) is verbs.Reply.ok
    (claim,) = queue.claim()
    assert (claim.token.attempt, claim.tries) == (3, 1)
    assert claim.fetched


def test_a_cancelled_download_that_is_forwarded_ends(queue: Queue) -> None:
    """The engine's workers never see it."""
    job = queue.submit(queue.web_request())
    token = queue.take_fetch()
    queue.cancel(job)
    assert queue.forward(token) is verbs.Reply.ok
    assert queue.picture() == {**EMPTY, "cancelled": [job]}


@pytest.mark.parametrize("way", ["waiting", "lost", "released"])
def test_a_cancelled_download_says_what_was_cancelled(queue: Queue, way: str) -> None:
    """The lane does not say what the job does; its request does."""
    request = SeparationRequest(source=UrlSource(url="https://example.org/a.wav"))
    queue.do(verbs.submit(queue.keys, request, None, queue.limits))
    if way == "waiting":
        queue.client.hset(queue.keys.job(request.id), "cancel", 1)  # asked for when its worker was lost
        assert queue.claim(lanes=queue.fetch_lanes) == []
    else:
        token = queue.take_fetch(limits=EXPIRED if way == "lost" else None)
        queue.cancel(request.id)
        if way == "lost":
            queue.reap()
        else:
            queue.do(verbs.release(queue.keys, token, queue.limits))
    record = read_job(request.id, queue.client.hgetall(queue.keys.job(request.id)))
    assert record.status is JobStatus.cancelled
    assert record.error is not None
    assert record.error.code is ErrorCode.SEPARATION_CANCELLED


def test_a_request_that_cannot_be_read_can_be_cancelled_in_the_lane_of_downloads(queue: Queue) -> None:
    """Whatever a foreign publisher wrote."""
    job = queue.submit(queue.web_request())
    queue.client.hset(queue.keys.job(job), mapping={"cancel": 1, "request": "{not json"})
    assert queue.claim(lanes=queue.fetch_lanes) == []
    assert queue.picture() == {**EMPTY, "cancelled": [job]}


def test_a_download_whose_worker_died_is_downloaded_by_another(queue: Queue) -> None:
    """Between storing and forwarding, too: the object is there, and the next one finds it under the same key."""
    job = queue.submit(queue.web_request())
    stale = queue.take_fetch("alice", EXPIRED)
    assert queue.reap() == [job]
    assert queue.waiting_in(queue.fetch_lanes[0]) == [job]
    assert queue.forward(stale) is verbs.Reply.superseded
    assert queue.forward(queue.take_fetch("bob")) is verbs.Reply.ok
    (claim,) = queue.claim()
    assert (claim.token.attempt, claim.tries, claim.crashes) == (3, 1, 1)


def test_a_forward_whose_reply_was_lost_is_superseded_when_it_is_said_again(queue: Queue) -> None:
    """It happened; the job is not in the lane twice."""
    job = queue.submit(queue.web_request())
    token = queue.take_fetch()
    assert [queue.forward(token) for _ in range(2)] == [verbs.Reply.ok, verbs.Reply.superseded]
    assert queue.waiting() == [job]


def test_a_fetched_job_that_fails_on_the_engine_is_not_downloaded_again(queue: Queue) -> None:
    """Neither after a retry, nor after a lost lease, nor after a drain: its lane is its backend's now."""
    job = queue.submit(queue.web_request())
    queue.forward(queue.take_fetch())
    queue.fail(queue.take(), 0.0)
    assert queue.do(verbs.promote(queue.keys)) == 1
    queue.take("bob", EXPIRED)
    assert queue.reap() == [job]
    queue.do(verbs.release(queue.keys, queue.take("carol"), queue.limits))
    (claim,) = queue.claim()
    assert (claim.tries, claim.crashes, claim.fetched != b"") == (2, 1, True)
    assert queue.waiting_in(queue.fetch_lanes[0]) == queue.waiting_in(queue.fetch_lanes[1]) == []


def test_a_download_that_failed_is_tried_again_where_it_is_downloaded(queue: Queue) -> None:
    """Its host was away; the attempt is charged."""
    job = queue.submit(queue.web_request())
    queue.fail(queue.take_fetch(), 0.0)
    assert queue.do(verbs.promote(queue.keys)) == 1
    assert queue.waiting_in(queue.fetch_lanes[1]) == [job]
    (claim,) = queue.claim(lanes=queue.fetch_lanes)
    assert (claim.token.attempt, claim.tries) == (2, 2)


@pytest.mark.parametrize("looks", ["expire", "claim"])
def test_a_fetched_job_that_no_engine_has_begun_by_its_time_is_dropped(queue: Queue, looks: str) -> None:
    """A download is not the start of the work."""
    soon = datetime.now(UTC) + timedelta(seconds=60)
    job = queue.submit(queue.web_request(expires_at=soon))
    queue.forward(queue.take_fetch())
    queue.client.hset(queue.keys.job(job), "expires_at", 1)
    queue.client.zadd(queue.keys.expiries, {job: 1})
    if looks == "expire":
        assert queue.do(verbs.expire(queue.keys, queue.limits)) == 1
    assert queue.claim() == []
    assert queue.picture() == {**EMPTY, "failed": [job], "dead": ["expired"]}
    ((_, letter),) = queue.client.xrange(queue.keys.dead)
    assert (letter[b"attempts"], letter[b"crashes"]) == (b"1", b"0")


def test_what_is_fetched_and_waits_fills_the_queue_like_what_nobody_has_begun(queue: Queue) -> None:
    """Else downloads would run ahead of the engines without an end; what is in a worker's hands takes no place."""
    one = Limits(max_pending=1)
    queue.submit(queue.web_request())
    token = queue.take_fetch()
    second = queue.submit(limits=one, use_cache=False)
    queue.cancel(second)
    queue.forward(token)
    with pytest.raises(QueueError, match="1 jobs wait, of 1; yours would be number 2"):
        queue.submit(limits=one, use_cache=False)
    queue.take()
    queue.submit(limits=one, use_cache=False)


def test_what_an_engine_has_begun_does_not_expire(queue: Queue) -> None:
    """Not while it runs, and not when it is handed back."""
    soon = datetime.now(UTC) + timedelta(seconds=60)
    job = queue.submit(queue.web_request(expires_at=soon))
    queue.forward(queue.take_fetch())
    token = queue.take()
    queue.client.hset(queue.keys.job(job), "expires_at", 1)
    queue.client.zadd(queue.keys.expiries, {job: 1})
    assert queue.do(verbs.expire(queue.keys, queue.limits)) == 0
    queue.do(verbs.release(queue.keys, token, queue.limits))
    assert [claim.token.job_id for claim in queue.claim()] == [job]


def test_a_redrive_downloads_again(queue: Queue) -> None:
    """What was fetched belongs to the job that failed; the new one has the addresses."""
    failed = queue.submit(queue.web_request())
    queue.forward(queue.take_fetch())
    queue.fail(queue.take(), None)
    again = queue.submit(queue.web_request(retried_from=failed))
    assert queue.waiting_in(queue.fetch_lanes[1]) == [again]
    (claim,) = queue.claim(lanes=queue.fetch_lanes)
    assert claim.fetched == b""


def test_equal_work_that_is_found_after_the_download_answers_it(queue: Queue) -> None:
    """The job ends in the lane of downloads: no engine's worker is needed."""
    job = queue.submit(queue.web_request())
    assert queue.complete(queue.take_fetch()) is verbs.Reply.ok
    assert queue.picture() == {**EMPTY, "completed": [job]}


def test_a_forward_goes_to_any_lane_that_it_names(queue: Queue) -> None:
    """And the lane is known from then on, as if it had been published to."""
    queue.submit(queue.web_request())
    lane = Lane("separate", "htdemucs_ft", Priority.High)
    queue.do(verbs.forward(queue.keys, queue.take_fetch(), lane, FETCHED, queue.limits))
    assert str(lane).encode() in queue.client.smembers(queue.keys.lanes)
    assert queue.client.llen(queue.keys.bell("separate.htdemucs_ft")) == 1
