"""States, policy and keys: three tables, walked."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soundfleet_schemas import (
    FINAL,
    TRANSITIONS,
    ErrorCode,
    Fail,
    JobStatus,
    Keys,
    Kind,
    Lane,
    Limits,
    Priority,
    Retry,
    SoundfleetError,
    Wait,
    advance,
    error,
    run_limit_sec,
    verdict,
)
from soundfleet_schemas.keys import LIFETIMES

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ALLOWED = {
    ("pending", "processing"),
    ("pending", "completed"),
    ("pending", "failed"),
    ("pending", "cancelled"),
    ("processing", "completed"),
    ("processing", "failed"),
    ("processing", "cancelled"),
}
STATES = list(JobStatus)
TRANSIENT = error(ErrorCode.SOURCE_UNAVAILABLE, "the host is away").info
PERMANENT = error(ErrorCode.AUDIO_CORRUPT, "the file ends early").info


@pytest.mark.parametrize(("current", "following"), list(itertools.product(STATES, STATES)))
def test_a_job_moves_only_as_the_table_says(current: JobStatus, following: JobStatus) -> None:
    """All 25 pairs; an illegal move names both states."""
    if (current, following) in ALLOWED:
        assert advance(current, following) is following
    else:
        with pytest.raises(SoundfleetError, match=f"from {current} to {following}") as caught:
            advance(current, following)
        assert caught.value.code is ErrorCode.ILLEGAL_TRANSITION


def test_final_states_are_those_without_a_way_out() -> None:
    """Completed, failed and cancelled; every state is in the table."""
    assert set(TRANSITIONS) == set(JobStatus)
    assert {JobStatus.completed, JobStatus.failed, JobStatus.cancelled} == FINAL


@pytest.mark.parametrize(
    ("info", "attempt", "expected"),
    [
        (PERMANENT, 1, Fail("permanent")),
        (PERMANENT, 3, Fail("permanent")),
        (TRANSIENT, 1, Retry(1.0)),
        (TRANSIENT, 2, Retry(2.0)),
        (TRANSIENT, 3, Fail("attempts")),
        (TRANSIENT, 4, Fail("attempts")),
    ],
)
def test_a_failure_is_judged_by_its_code_and_attempt(info: object, attempt: int, expected: object) -> None:
    """Three attempts in all, the delay doubling; jitter 0.5 makes the row readable."""
    assert verdict(info, attempt, jitter=0.5) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("waited_sec", "expected"),
    [(0.0, Wait(60.0)), (3599.0, Wait(60.0)), (3600.0, Fail("waited"))],
)
def test_a_job_waits_for_the_job_that_makes_its_source(waited_sec: float, expected: object) -> None:
    """Not by its attempts: it has not failed. An hour is enough."""
    info = error(ErrorCode.SOURCE_JOB_PENDING, "job 1 is processing").info
    assert verdict(info, 99, waited_sec=waited_sec) == expected


@UNHURRIED
@given(attempt=st.integers(1, 10**6), jitter=st.floats(0, 1, exclude_max=True))
def test_no_delay_is_longer_than_the_cap(attempt: int, jitter: float) -> None:
    """However many attempts an operator allows."""
    judged = verdict(TRANSIENT, attempt, Limits(max_attempts=10**9), jitter=jitter)
    assert isinstance(judged, Retry)
    assert 0 <= judged.after_sec <= 300


def test_jitter_is_full() -> None:
    """Without a given draw, delays spread over the whole of [0, ceiling)."""
    delays = [judged.after_sec for _ in range(200) if isinstance(judged := verdict(TRANSIENT, 1), Retry)]
    assert min(delays) < 0.5 < 1.5 < max(delays) < 2.0


@pytest.mark.parametrize(
    ("audio_sec", "requested", "limit"),
    [(10, None, 300), (300, None, 300), (300.1, None, 600), (10, 42.0, 42.0), (599, 42.0, 42.0)],
)
def test_a_run_is_limited_by_its_length_or_by_request(audio_sec: float, requested: float | None, limit: float) -> None:
    """Five minutes for short tracks, ten for long ones."""
    assert run_limit_sec(audio_sec, requested) == limit


KEYS = Keys("fleet")
LANE = Lane(Kind.separate, "htdemucs", Priority.High)


@pytest.mark.parametrize(
    ("key", "spelled"),
    [
        (KEYS.lane(LANE), "{fleet}:lane:separate.htdemucs:high"),
        (KEYS.bell(LANE.service), "{fleet}:bell:separate.htdemucs"),
        (KEYS.job("J"), "{fleet}:job:J"),
        (KEYS.events("J"), "{fleet}:events:J"),
        (KEYS.channel("J"), "{fleet}:progress:J"),
        (KEYS.control("W"), "{fleet}:control:W"),
        (KEYS.jobs(), "{fleet}:jobs"),
        (KEYS.jobs(JobStatus.failed), "{fleet}:jobs:failed"),
        (KEYS.worker("W"), "{fleet}:worker:W"),
        (KEYS.workers, "{fleet}:workers"),
        (KEYS.cache("F"), "{fleet}:cache:F"),
        (KEYS.client("C"), "{fleet}:client:C"),
        (KEYS.leases, "{fleet}:leases"),
        (KEYS.delayed, "{fleet}:delayed"),
        (KEYS.dead, "{fleet}:dead"),
        (KEYS.lanes, "{fleet}:lanes"),
        (KEYS.backends, "{fleet}:backends"),
    ],
)
def test_keys_are_spelled_as_the_protocol_says(key: str, spelled: str) -> None:
    """The spelling is the contract with other languages; each key carries the hash tag, each family a lifetime."""
    assert key == spelled
    family = key.split(":")[1]
    assert family in LIFETIMES or family in {"progress", "control"}, "channels are not keys and have no lifetime"


@pytest.mark.parametrize("namespace", ["", "a b", "{x}", "a:b", "é", "x" * 65, "a\n"])
def test_a_namespace_that_would_break_the_hash_tag_is_refused(namespace: str) -> None:
    """Letters, digits and . _ - only."""
    with pytest.raises(SoundfleetError) as caught:
        Keys(namespace)
    assert caught.value.code is ErrorCode.INVALID_SETTING


@pytest.mark.parametrize("backend", ["", "a:b", "a.b", "a b", "x" * 65, "a\n"])
def test_a_backend_that_would_break_a_lane_is_refused(backend: str) -> None:
    """The lane's text is split at its colon and point again."""
    with pytest.raises(SoundfleetError) as caught:
        Lane(Kind.generate, backend, Priority.Normal)
    assert caught.value.code is ErrorCode.INVALID_BACKEND
