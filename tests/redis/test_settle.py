"""Settling: completed, tried again later, failed with a dead letter, cancelled; and what becomes of lost leases."""

from __future__ import annotations

import msgspec
import pytest

from soundfleet_producer.queue import verbs
from soundfleet_schemas import ErrorCode, JobStatus, Limits, QueueError

from .conftest import EMPTY, Queue, cancelled, crash

EXPIRED = Limits(lease_sec=0.0)


def test_a_completed_job_leaves_no_entry_and_no_lease(queue: Queue) -> None:
    """Acknowledged before it is deleted: no ghost in the pending list."""
    job = queue.submit()
    assert queue.complete(queue.take()) is verbs.Reply.ok
    assert queue.picture() == {**EMPTY, "completed": [job]}
    assert queue.job(job)["progress"] == "100"
    assert queue.events(job) == ["claimed", "completed"]


def test_what_is_finished_expires_and_what_is_not_does_not(queue: Queue) -> None:
    """Retention counts from the end of a job."""
    done, waiting = queue.submit(), queue.submit()
    queue.complete(queue.take(), "f" * 64)
    keys = queue.keys
    assert queue.client.ttl(keys.job(done)) == queue.client.ttl(keys.events(done)) == queue.limits.retain_completed_sec
    assert queue.client.ttl(keys.cache("f" * 64)) == queue.limits.retain_completed_sec
    assert queue.client.ttl(keys.job(waiting)) == -1


def test_a_failed_attempt_waits_its_delay_and_then_runs_again(queue: Queue) -> None:
    """Inside ``processing``: a retry is another attempt, not another job."""
    job = queue.submit()
    queue.fail(queue.take(), 60.0)
    assert queue.picture() == {**EMPTY, "delayed": [job], "processing": [job]}
    assert queue.do(verbs.promote(queue.keys)) == 0
    queue.client.zadd(queue.keys.delayed, {job: 0})
    assert queue.do(verbs.promote(queue.keys)) == 1
    assert queue.picture() == {**EMPTY, "waiting": [job], "processing": [job]}
    (claim,) = queue.claim("bob")
    assert (claim.token.attempt, claim.tries) == (2, 2)
    assert queue.events(job) == ["claimed", "retry", "requeued", "claimed"]


def test_a_job_that_failed_for_good_has_a_dead_letter(queue: Queue) -> None:
    """With its error, its attempts, and what is known."""
    job = queue.submit()
    queue.fail(queue.take(), None)
    assert queue.picture() == {**EMPTY, "failed": [job], "dead": ["attempts"]}
    ((_, letter),) = queue.client.xrange(queue.keys.dead)
    assert (letter[b"job"], letter[b"attempts"]) == (job.encode(), b"1")
    assert msgspec.json.decode(letter[b"error"])["code"] == "WORKER_CRASHED"
    assert queue.client.ttl(queue.keys.job(job)) == queue.limits.retain_failed_sec


def test_a_lost_lease_puts_the_job_back_without_charging_an_attempt(queue: Queue) -> None:
    """The worker died, not the job."""
    job = queue.submit()
    queue.take("alice", EXPIRED)
    assert queue.reap() == [job]
    assert queue.picture() == {**EMPTY, "waiting": [job], "processing": [job]}
    (claim,) = queue.claim("bob")
    assert (claim.token.attempt, claim.tries, claim.crashes) == (2, 1, 1)
    assert queue.events(job) == ["claimed", "lost", "claimed"]


def test_a_live_lease_is_not_reaped(queue: Queue) -> None:
    """Only the server's clock decides."""
    queue.submit()
    queue.take("alice")
    assert queue.reap() == []


def test_three_crashes_are_a_dead_letter(queue: Queue) -> None:
    """A job that kills its workers must not go round for ever."""
    job = queue.submit()
    for _ in range(3):
        queue.take("alice", EXPIRED)
        assert queue.reap() == [job]
    assert queue.picture() == {**EMPTY, "failed": [job], "dead": ["crashes"]}
    assert queue.claim() == []


def test_cancelling_a_waiting_job_ends_it_and_its_entry_is_passed_over(queue: Queue) -> None:
    """The entry stays as a tombstone until it is read: deleting it would spoil the group's lag."""
    job = queue.submit()
    assert queue.cancel(job) is JobStatus.cancelled
    assert queue.picture() == {**EMPTY, "waiting": [job], "cancelled": [job]}
    assert queue.claim() == []
    assert queue.picture() == {**EMPTY, "cancelled": [job]}


def test_cancelling_a_job_that_waits_for_its_retry_ends_it(queue: Queue) -> None:
    """Nothing is promoted afterwards."""
    job = queue.submit()
    queue.fail(queue.take(), 0.0)
    assert queue.cancel(job) is JobStatus.cancelled
    assert queue.do(verbs.promote(queue.keys)) == 0
    assert queue.picture() == {**EMPTY, "cancelled": [job]}


def test_cancelling_a_running_job_tells_its_worker_at_once_and_with_every_reply(queue: Queue) -> None:
    """The channel is quick, the replies are sure."""
    job = queue.submit()
    token = queue.take()
    listener = queue.client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(queue.keys.control("alice"))
    listener.get_message(timeout=1)
    assert queue.cancel(job) is JobStatus.processing
    told = listener.get_message(timeout=5) or listener.get_message(timeout=5)
    assert told is not None
    assert told["data"] == job.encode()
    listener.close()
    assert queue.do(verbs.renew(queue.keys, "alice", [token], queue.limits)) == ["cancel"]
    assert queue.do(verbs.settle_cancelled(queue.keys, token, cancelled(), queue.limits)) is verbs.Reply.ok
    assert queue.picture() == {**EMPTY, "cancelled": [job]}
    assert queue.events(job) == ["claimed", "cancelling", "cancelled"]


def test_a_cancelled_run_that_fails_is_not_tried_again(queue: Queue) -> None:
    """The caller does not want it any more."""
    job = queue.submit()
    token = queue.take()
    queue.cancel(job)
    queue.fail(token, 1.0)
    assert queue.picture() == {**EMPTY, "cancelled": [job]}
    assert msgspec.json.decode(queue.job(job)["error"])["code"] == ErrorCode.GENERATION_CANCELLED


def test_a_cancelled_run_whose_worker_died_is_cancelled_by_the_reaper(queue: Queue) -> None:
    """There is nobody left to obey."""
    job = queue.submit()
    queue.take("alice", EXPIRED)
    queue.cancel(job)
    queue.reap()
    assert queue.picture() == {**EMPTY, "cancelled": [job]}
    assert msgspec.json.decode(queue.job(job)["error"])["code"] == ErrorCode.GENERATION_CANCELLED


def test_cancelling_what_is_finished_changes_nothing(queue: Queue) -> None:
    """The answer is the state that it is in."""
    job = queue.submit()
    queue.complete(queue.take())
    assert queue.cancel(job) is JobStatus.completed


def test_cancelling_an_unknown_job_is_an_error(queue: Queue) -> None:
    """JOB_NOT_FOUND, not silence."""
    with pytest.raises(QueueError) as refused:
        queue.cancel("no-such-job")
    assert refused.value.code is ErrorCode.JOB_NOT_FOUND


def test_sweeping_takes_expired_records_out_of_the_indexes(queue: Queue) -> None:
    """A record expires by itself; the index must not keep its name for ever."""
    gone, kept = queue.submit(), queue.submit()
    queue.complete(queue.take())
    queue.complete(queue.take())
    queue.client.delete(queue.keys.job(gone))
    assert queue.do(verbs.sweep(queue.keys)) == 1
    assert queue.picture() == {**EMPTY, "completed": [kept]}
    assert queue.members(queue.keys.jobs()) == [kept]


def test_a_job_that_waits_for_another_goes_on_when_that_one_ends(queue: Queue) -> None:
    """Uncharged, for it has not failed; at once, however long the delay."""
    source, job = queue.submit(use_cache=False), queue.submit(use_cache=False)
    first, second = (claim.token for claim in queue.claim("alice", 2))
    waits = verbs.Failure(crash(), 3600.0, waits_for=source)
    queue.do(verbs.settle_failed(queue.keys, second, waits, queue.limits))
    assert queue.do(verbs.promote(queue.keys)) == 0
    queue.complete(first)
    assert queue.do(verbs.promote(queue.keys)) == 1
    (claim,) = queue.claim("bob")
    assert (claim.token.job_id, claim.token.attempt, claim.tries) == (job, 2, 1)
    assert queue.client.exists(queue.keys.waiters(source)) == 0


def test_a_job_does_not_wait_for_one_that_has_ended_meanwhile(queue: Queue) -> None:
    """Between the worker's look and its settlement; or that was forgotten."""
    source, _job = queue.submit(use_cache=False), queue.submit(use_cache=False)
    first, second = (claim.token for claim in queue.claim("alice", 2))
    queue.complete(first)
    waits = verbs.Failure(crash(), 3600.0, waits_for=source)
    queue.do(verbs.settle_failed(queue.keys, second, waits, queue.limits))
    assert queue.do(verbs.promote(queue.keys)) == 1
