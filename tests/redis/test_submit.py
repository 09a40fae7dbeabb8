"""Submitting: once, whatever is repeated; refused when full; answered from finished work; redriven as a new job."""

from __future__ import annotations

import msgspec
import pytest

from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.exchange import Exchange, perform_all
from soundfleet_schemas import (
    ErrorCode,
    InvalidRequest,
    JobStatus,
    Limits,
    Priority,
    QueueError,
    SoundfleetError,
    fingerprint,
)

from .conftest import CATALOGUE, EMPTY, Queue, result_of


def test_a_submitted_job_waits_in_its_lane_and_rings_one_bell(queue: Queue) -> None:
    """The record, the entry, the index and the bell appear in one step."""
    job = queue.submit()
    assert queue.picture() == {**EMPTY, "waiting": [job], "pending": [job]}
    assert queue.job(job) == {"state": "pending"}
    assert queue.client.lrange(queue.keys.bell("generate.sketch"), 0, -1) == [job.encode()]


def test_the_same_request_twice_is_one_job(queue: Queue) -> None:
    """A producer that lost the reply submits again."""
    request = queue.request()
    outcomes = [queue.do(verbs.submit(queue.keys, request, None, queue.limits)).outcome for _ in range(2)]
    assert outcomes == ["created", "exists"]
    assert queue.picture() == {**EMPTY, "waiting": [request.id], "pending": [request.id]}


def test_another_request_under_a_known_id_is_a_conflict(queue: Queue) -> None:
    """Silently dropping the second request would lose it."""
    job = queue.submit()
    with pytest.raises(QueueError) as refused:
        queue.submit(id=job, prompt="sun")
    assert refused.value.code is ErrorCode.JOB_CONFLICT


def test_a_full_queue_says_the_position_and_the_wait(queue: Queue) -> None:
    """Nothing of the refused job stays behind."""
    job = queue.submit()
    with pytest.raises(QueueError, match="yours would be number 2") as refused:
        queue.submit(limits=Limits(max_pending=1))
    assert refused.value.code is ErrorCode.QUEUE_FULL
    assert queue.picture() == {**EMPTY, "waiting": [job], "pending": [job]}


def test_a_full_queue_estimates_the_wait_by_what_was_completed_lately(queue: Queue) -> None:
    """By the time since the first of them, a minute at least: a fleet that has just begun is not ten times as slow."""
    for _ in range(3):
        queue.submit(use_cache=False)
        queue.complete(queue.take())
    for _ in range(2):
        queue.submit(use_cache=False)
    with pytest.raises(QueueError, match=r"wait: about 4\d s"):
        queue.submit(limits=Limits(max_pending=2))


def test_the_pace_of_a_fleet_that_goes_on_is_that_of_ten_minutes(queue: Queue) -> None:
    """What was completed before them does not count."""
    minute = int(queue.client.time()[0]) // 60
    queue.client.hset(queue.keys.pace, mapping={str(minute - 9): 30, str(minute - 11): 1000})
    queue.submit()
    with pytest.raises(QueueError, match=r"wait: about (18|19|20) s"):
        queue.submit(limits=Limits(max_pending=1))


@pytest.mark.parametrize(("lane", "expires_at"), [("sketch", ""), ("generate.sketch:normal", "2030-01-01")])
def test_a_foreign_publishers_mistake_is_refused_before_anything_is_written(
    queue: Queue, lane: str, expires_at: str
) -> None:
    """Half a job would be worse than none."""
    exchange = verbs.submit(queue.keys, queue.request(), None, queue.limits)
    args = [*exchange.args]
    args[4], args[7] = lane, expires_at
    with pytest.raises(InvalidRequest, match="refused"):
        queue.do(Exchange(exchange.script, exchange.keys, args, exchange.read))
    assert queue.client.keys() == []


def test_an_answer_from_the_cache_does_not_prolong_it(queue: Queue) -> None:
    """Else one hit a month would outlive the objects that it names."""
    request = queue.request()
    first = queue.submit(request)
    print_ = fingerprint(request, CATALOGUE)
    assert print_ is not None
    queue.complete(queue.take(), print_)
    queue.submit(use_cache=False)
    token = queue.take()
    answer = msgspec.structs.replace(result_of(token), cached=True)
    queue.do(verbs.settle_completed(queue.keys, token, answer, print_, queue.limits))
    assert queue.client.get(queue.keys.cache(print_)) == first.encode()


def test_finished_work_answers_an_equal_request_at_once(queue: Queue) -> None:
    """Equal fingerprints mean equal bytes."""
    request = queue.request()
    first = queue.submit(request)
    queue.complete(queue.take(), fingerprint(request, CATALOGUE))
    again = queue.request()
    answer = queue.do(verbs.submit(queue.keys, again, fingerprint(again, CATALOGUE), queue.limits))
    assert answer == (again.id, "cached", JobStatus.completed)
    assert queue.job(again.id)["result"] == queue.job(first)["result"]
    assert queue.events(again.id) == ["completed"]
    assert queue.picture() == {
        **EMPTY,
        "completed": sorted([first, again.id], key=queue.members(queue.keys.jobs()).index),
    }


def test_a_request_may_refuse_the_cache(queue: Queue) -> None:
    """``use_cache=False`` computes again."""
    request = queue.request()
    queue.submit(request)
    queue.complete(queue.take(), fingerprint(request, CATALOGUE))
    job = queue.submit(use_cache=False)
    assert queue.job(job)["state"] == "pending"


def test_many_requests_go_in_one_exchange_and_each_answers_for_itself(queue: Queue) -> None:
    """One refused job does not take the others with it."""
    requests = [queue.request() for _ in range(3)]
    drafts = [verbs.Draft(request, None) for request in requests]
    answers = queue.do(verbs.submit_many(queue.keys, drafts, Limits(max_pending=2)))
    assert [getattr(answer, "outcome", "refused") for answer in answers] == ["created", "created", "refused"]
    assert isinstance(answers[2], SoundfleetError)


def test_a_pipeline_survives_a_server_that_forgot_the_scripts(queue: Queue) -> None:
    """A restarted server answers NOSCRIPT; nothing is lost or repeated."""
    queue.client.script_flush()
    requests = [queue.request() for _ in range(3)]
    exchanges = [verbs.submit(queue.keys, request, None, queue.limits) for request in requests]
    answers = perform_all(queue.client, exchanges)
    assert [answer.outcome for answer in answers if isinstance(answer, verbs.Submitted)] == ["created"] * 3
    assert queue.waiting() == [request.id for request in requests]


def test_a_redrive_is_a_new_job_that_names_the_failed_one(queue: Queue) -> None:
    """Failed is final; its dead letter goes when its redrive comes."""
    failed = queue.submit()
    queue.fail(queue.take(), None)
    redrive = queue.submit(retried_from=failed)
    assert queue.picture() == {**EMPTY, "waiting": [redrive], "pending": [redrive], "failed": [failed]}
    assert queue.job(failed)["redriven_as"] == redrive


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("unknown", ErrorCode.JOB_NOT_FOUND),
        ("pending", ErrorCode.ILLEGAL_TRANSITION),
        ("twice", ErrorCode.JOB_CONFLICT),
    ],
)
def test_only_a_failed_job_is_redriven_and_only_once(queue: Queue, how: str, code: ErrorCode) -> None:
    """Two operators who redrive the same letter make one job."""
    old = "00000000-0000-4000-8000-000000000000"
    if how != "unknown":
        old = queue.submit()
    if how == "twice":
        queue.fail(queue.take(), None)
        queue.submit(retried_from=old)
    with pytest.raises(QueueError) as refused:
        queue.submit(retried_from=old)
    assert refused.value.code is code


def test_high_priority_goes_to_its_own_lane(queue: Queue) -> None:
    """One stream per priority."""
    job = queue.submit(priority=Priority.High)
    assert (queue.waiting(Priority.High), queue.waiting()) == ([job], [])
