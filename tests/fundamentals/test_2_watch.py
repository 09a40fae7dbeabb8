"""Watching a job: every event once, from any point on, long after the end too."""

from __future__ import annotations

import threading

import pytest
from tests.hands import Hands
from tests.waiting import wait_until

from soundfleet_producer import GenerationRequest, Producer
from soundfleet_schemas import ErrorCode, EventType, JobEvent, QueueError


def _submit(producer: Producer) -> str:
    return producer.submit(GenerationRequest(prompt="warm lofi", duration_sec=30)).id


def test_a_watch_tells_the_whole_story_of_a_finished_job(producer: Producer, hands: Hands) -> None:
    """Who comes late hears everything, and the iterator ends with the terminal event."""
    job_id = _submit(producer)
    token = hands.claim().token
    hands.report(token, 50)
    hands.complete(token, {"track": b"audio"})
    events = list(producer.watch(job_id))
    assert [event.type for event in events] == ["submitted", "claimed", "progress", "completed"]
    assert events[2].progress is not None
    assert events[2].progress.percent == 50


def test_a_watch_resumes_after_any_event(producer: Producer, hands: Hands) -> None:
    """The id of an event is where to go on."""
    job_id = _submit(producer)
    hands.complete(hands.claim().token, {"track": b"audio"})
    events = list(producer.watch(job_id))
    for position, event in enumerate(events):
        assert list(producer.watch(job_id, after=event.id)) == events[position + 1 :]


def test_events_arrive_while_the_job_runs(producer: Producer, hands: Hands) -> None:
    """The watcher is woken by what happens; it does not poll."""
    job_id = _submit(producer)
    heard: list[JobEvent] = []
    watcher = threading.Thread(target=lambda: heard.extend(producer.watch(job_id)))
    watcher.start()
    token = hands.claim().token
    hands.report(token, 10)
    hands.complete(token, {"track": b"audio"})
    watcher.join(30)
    assert [event.type for event in heard] == ["submitted", "claimed", "progress", "completed"]


def test_a_watch_outlives_a_restart_of_redis(producer: Producer, hands: Hands) -> None:
    """Nothing is lost and nothing is told twice when the server goes and comes back."""
    job_id = _submit(producer)
    token = hands.claim().token
    heard: list[JobEvent] = []

    def listen() -> None:
        for event in producer.watch(job_id):
            heard.append(event)

    watcher = threading.Thread(target=listen)
    watcher.start()
    wait_until(lambda: len(heard) == 2, "the first events")
    hands.stack.local.restart_redis()
    hands.complete(token, {"track": b"audio"})
    watcher.join(60)
    assert [event.type for event in heard] == ["submitted", "claimed", "completed"]


def test_a_watch_may_have_an_end_of_its_own(producer: Producer) -> None:
    """A timeout ends the watch, not the job."""
    job_id = _submit(producer)
    with pytest.raises(QueueError) as caught:
        list(producer.watch(job_id, timeout=0.2))
    assert caught.value.code is ErrorCode.RESULT_TIMEOUT


def test_an_unknown_job_is_an_error_at_once(producer: Producer) -> None:
    """Nobody waits for a job that is not there."""
    with pytest.raises(QueueError) as caught:
        next(iter(producer.watch("11111111-1111-4111-8111-111111111111")))
    assert caught.value.code is ErrorCode.JOB_NOT_FOUND


def test_the_first_event_says_when_the_job_was_submitted(producer: Producer) -> None:
    """It is not stored: a queued job costs no stream."""
    job_id = _submit(producer)
    first = next(iter(producer.watch(job_id)))
    assert first.type is EventType.submitted
    assert first.at_ms == round(producer.status(job_id).created_at.timestamp() * 1000)
