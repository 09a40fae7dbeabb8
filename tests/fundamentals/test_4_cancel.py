"""Cancelling: a waiting job ends at once, a running one when its worker gives it up."""

from __future__ import annotations

import pytest
from tests.hands import Hands

from soundfleet_producer import GenerationRequest, Producer
from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.exchange import perform
from soundfleet_producer.queue.verbs import Reply
from soundfleet_schemas import ErrorCode, JobStatus, QueueError, WorkerError, error


def _submit(producer: Producer) -> str:
    return producer.submit(GenerationRequest(prompt="warm lofi", duration_sec=30)).id


def test_a_waiting_job_is_cancelled_at_once(producer: Producer) -> None:
    """It never runs, and its result says what happened."""
    job_id = _submit(producer)
    assert producer.cancel(job_id) is JobStatus.cancelled
    assert [event.type for event in producer.watch(job_id)] == ["submitted", "cancelled"]
    with pytest.raises(WorkerError) as caught:
        producer.result(job_id)
    assert caught.value.code is ErrorCode.GENERATION_CANCELLED


def test_a_running_job_is_cancelled_by_its_worker(producer: Producer, hands: Hands) -> None:
    """The worker hears of it with its next report, and settles."""
    job_id = _submit(producer)
    token = hands.claim().token
    assert producer.cancel(job_id) is JobStatus.processing
    assert producer.status(job_id).cancel_requested
    assert hands.report(token, 10) is Reply.cancel
    info = error(ErrorCode.GENERATION_CANCELLED, "stopped at step 10").info
    perform(hands.stack.redis, verbs.settle_cancelled(hands.stack.keys, token, info, hands.limits))
    assert producer.status(job_id).status is JobStatus.cancelled


def test_a_finished_job_stays_what_it_is(producer: Producer, hands: Hands) -> None:
    """Cancelling too late changes nothing and says so."""
    job_id = _submit(producer)
    hands.complete(hands.claim().token, {"track": b"audio"})
    assert producer.cancel(job_id) is JobStatus.completed


def test_a_job_that_is_not_there_cannot_be_cancelled(producer: Producer) -> None:
    """The error says that the job is unknown."""
    with pytest.raises(QueueError) as caught:
        producer.cancel("11111111-1111-4111-8111-111111111111")
    assert caught.value.code is ErrorCode.JOB_NOT_FOUND
