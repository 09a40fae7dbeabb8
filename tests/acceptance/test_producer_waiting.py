"""Waiting for a job and watching it, whatever happens to Redis and to the job's events meanwhile."""

from __future__ import annotations

import math
import threading

import pytest
from tests.hands import Hands
from tests.stacks import Stack
from tests.waiting import wait_until

from soundfleet_producer import GenerationRequest, Producer
from soundfleet_schemas import ErrorCode, InvalidRequest


def _request() -> GenerationRequest:
    return GenerationRequest(prompt="warm lofi", duration_sec=30)


def test_waiting_for_no_number_of_seconds_is_refused(producer: Producer) -> None:
    """It would wait for ever."""
    with pytest.raises(InvalidRequest, match="not a number"):
        producer.result(producer.submit(_request()).id, math.nan)


def test_waiting_for_a_result_outlives_a_crash_of_redis(producer: Producer, hands: Hands, stack: Stack) -> None:
    """kill -9 of the server in the middle of a wait."""
    job_id = producer.submit(_request()).id
    token = hands.claim().token
    results: list[str] = []
    waiter = threading.Thread(target=lambda: results.append(producer.result(job_id, timeout=60).job_id))
    waiter.start()
    wait_until(lambda: any(c["cmd"] == "xread" for c in stack.redis.client_list()), "the wait to begin")
    stack.local.kill_redis()
    stack.local.restart_redis()
    hands.complete(token, {"drums": b"boom"})
    waiter.join(60)
    assert results == [job_id]


def test_a_job_whose_events_are_gone_still_ends_its_watch(producer: Producer, hands: Hands, stack: Stack) -> None:
    """The record answers for the stream: a watch never hangs on a finished job."""
    job_id = producer.submit(_request()).id
    hands.fail(hands.claim().token)
    stack.redis.delete(stack.keys.events(job_id))
    events = list(producer.watch(job_id))
    assert [event.type for event in events] == ["submitted", "failed"]
    assert events[-1].error is not None
    assert events[-1].error.code is ErrorCode.AUDIO_CORRUPT


def test_a_watch_goes_past_events_of_a_newer_version(producer: Producer, hands: Hands, stack: Stack) -> None:
    """An unknown event is neither shown nor a stumbling block."""
    job_id = producer.submit(_request()).id
    token = hands.claim().token
    stack.redis.xadd(stack.keys.events(job_id), {"event": b'{"job_id":"x","type":"paused","at_ms":1}'})
    hands.complete(token, {"drums": b"boom"})
    assert [event.type for event in producer.watch(job_id)] == ["submitted", "claimed", "completed"]


def test_a_watch_refuses_what_is_no_event_id(producer: Producer) -> None:
    """A mistyped resume point is said at once."""
    job_id = producer.submit(_request()).id
    with pytest.raises(InvalidRequest, match="after is 'yesterday'"):
        list(producer.watch(job_id, after="yesterday"))
