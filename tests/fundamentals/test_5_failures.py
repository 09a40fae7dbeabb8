"""Failures: another attempt for what may pass, a dead letter for what will not, a redrive when the cause is gone."""

from __future__ import annotations

import pytest
from tests.hands import Hands
from tests.waiting import wait_until

from soundfleet_producer import GenerationRequest, Producer
from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.exchange import perform
from soundfleet_schemas import ErrorCode, JobStatus, QueueError


def _submit(producer: Producer) -> str:
    return producer.submit(GenerationRequest(prompt="warm lofi", duration_sec=30)).id


def test_a_passing_failure_is_another_attempt_of_the_same_job(producer: Producer, hands: Hands) -> None:
    """The job stays in processing, says when it goes on, and is claimed again."""
    job_id = _submit(producer)
    hands.fail(hands.claim().token, ErrorCode.OUT_OF_MEMORY, retry_after_sec=0.05)
    job = producer.status(job_id)
    assert job.status is JobStatus.processing
    assert job.retry_at is not None
    promote = verbs.promote(hands.stack.keys)
    wait_until(lambda: perform(hands.stack.redis, promote) == 1, "the retry to be due")
    again = hands.claim()
    assert (again.token.job_id, again.token.attempt) == (job_id, 2)
    hands.complete(again.token, {"track": b"audio"})
    told = [event.type for event in producer.watch(job_id)]
    assert told == ["submitted", "claimed", "retry", "requeued", "claimed", "completed"]


def test_a_lasting_failure_is_a_dead_letter(producer: Producer, hands: Hands) -> None:
    """It says why, after how many attempts, and what the worker knew."""
    job_id = _submit(producer)
    hands.fail(hands.claim().token, ErrorCode.AUDIO_CORRUPT)
    (letter,) = producer.dead_letters()
    assert (letter.job_id, letter.error.code, letter.attempts) == (job_id, ErrorCode.AUDIO_CORRUPT, 1)
    assert letter.detail == "what was known"
    assert producer.dead_letter(job_id) == letter


def test_a_redrive_is_a_new_job_that_names_the_old_one(producer: Producer, hands: Hands) -> None:
    """Failed is final: the old job stays failed, its letter is answered."""
    job_id = _submit(producer)
    hands.fail(hands.claim().token)
    again = producer.redrive(job_id)
    assert producer.status(again.id).request.retried_from == job_id
    assert producer.status(job_id).status is JobStatus.failed
    assert producer.dead_letters() == []
    assert producer.redrive(job_id) == again._replace(outcome="exists")  # said twice, done once


def test_every_dead_letter_can_be_redriven_together(producer: Producer, hands: Hands) -> None:
    """After an outage one call puts everything back."""
    failed = {_submit(producer) for _ in range(3)}
    for _ in failed:
        hands.fail(hands.claim().token)
    assert {answer.outcome for answer in producer.redrive_all()} == {"created"}  # type: ignore[union-attr]
    assert {job.request.retried_from for job in producer.jobs(JobStatus.pending)} == failed


def test_only_a_failed_job_can_be_redriven(producer: Producer) -> None:
    """The error names the state that the job is in."""
    job_id = _submit(producer)
    with pytest.raises(QueueError, match="is pending, not failed"):
        producer.redrive(job_id)


def test_dead_letters_can_be_thrown_away(producer: Producer, hands: Hands) -> None:
    """The failed job's record stays until its retention."""
    job_id = _submit(producer)
    hands.fail(hands.claim().token)
    assert producer.purge_dead() == 1
    assert producer.dead_letters() == []
    assert producer.status(job_id).status is JobStatus.failed
