"""Claiming: exactly as many as there are slots, each with its lease; what cannot run is answered, never left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from soundfleet_producer.queue import verbs
from soundfleet_schemas import ErrorCode, Limits, Priority

from .conftest import EMPTY, Queue


def test_a_claim_takes_the_job_its_attempt_and_its_lease_in_one_step(queue: Queue) -> None:
    """There is never an entry delivered to nobody."""
    job = queue.submit()
    (claim,) = queue.claim("alice")
    assert claim.token == (job, "alice", 1)
    assert (claim.tries, claim.crashes) == (1, 0)
    assert msgspec.json.decode(claim.raw_request)["prompt"] == "rain"
    assert queue.picture() == {**EMPTY, "waiting": [job], "leases": [job], "processing": [job], "unacknowledged": 1}
    assert queue.job(job) == {"state": "processing", "worker": "alice", "attempt": "1"}
    assert queue.events(job) == ["claimed"]


def test_a_claim_takes_no_more_than_its_slots_over_all_lanes(queue: Queue) -> None:
    """XREADGROUP would take COUNT of each stream; the rest must stay for other workers."""
    high = [queue.submit(priority=Priority.High) for _ in range(2)]
    normal = [queue.submit() for _ in range(3)]
    assert [claim.token.job_id for claim in queue.claim("alice", 3)] == [*high, normal[0]]
    assert [claim.token.job_id for claim in queue.claim("bob", 8)] == normal[1:]
    assert queue.claim("bob", 8) == []


def test_an_aged_normal_job_goes_before_younger_high_ones(queue: Queue) -> None:
    """High priority must not starve normal jobs for ever."""
    normal, high = queue.submit(), queue.submit(priority=Priority.High)
    patient = queue.claim("alice", 2, Limits(ageing_sec=0.0))
    assert [claim.token.job_id for claim in patient] == [normal, high]


def test_a_lane_without_jobs_or_group_is_simply_empty(queue: Queue) -> None:
    """A worker may start before the first publisher."""
    assert queue.do(verbs.claim(queue.keys, "alice", 4, queue.lanes, queue.limits)) == ([], ())


def test_a_vanished_group_is_made_again_and_nothing_is_missed(queue: Queue) -> None:
    """A restored server may know the stream but not its group: the reply names the lane, so that the worker shouts."""
    finished = queue.submit()
    queue.complete(queue.take())
    held, waiting = queue.submit(), queue.submit()
    queue.take("alice")
    queue.client.xgroup_destroy(queue.keys.lane(queue.lanes[1]), "workers")
    claims = queue.do(verbs.claim(queue.keys, "bob", 8, queue.lanes, queue.limits))
    assert claims.created == ("generate.sketch:normal",)
    assert [claim.token for claim in claims.jobs] == [(waiting, "bob", 1)]
    assert queue.job(held)["worker"] == "alice"
    assert queue.job(finished)["state"] == "completed"


@pytest.mark.parametrize("fields", [{"job": "no-such-job"}, {"spam": "x"}, {"job": "a", "and": "more"}])
def test_a_malformed_entry_becomes_a_dead_letter_and_the_claim_goes_on(queue: Queue, fields: dict[str, str]) -> None:
    """Whoever writes into a stream by hand cannot stop the fleet."""
    queue.client.xadd(queue.keys.lane(queue.lanes[1]), fields)
    job = queue.submit()
    assert [claim.token.job_id for claim in queue.claim()] == [job]
    ((_, letter),) = queue.client.xrange(queue.keys.dead)
    assert letter[b"reason"] == b"malformed"
    assert msgspec.json.decode(letter[b"error"])["code"] == ErrorCode.MALFORMED_ENTRY
    assert next(iter(fields.values())).encode() in letter[b"detail"]
    assert queue.waiting() == [job]


def test_a_thousand_tombstones_do_not_hide_the_job_behind_them(queue: Queue) -> None:
    """Cancelled entries stay in the stream until they are read; a claim passes over them in bounded rounds."""
    for _ in range(30):
        queue.cancel(queue.submit())
    job = queue.submit()
    taken = [claim.token.job_id for _ in range(4) for claim in queue.claim(slots=8)]
    assert taken == [job]
    assert queue.waiting() == [job]


def test_a_job_past_its_expires_at_is_dropped_unrun(queue: Queue) -> None:
    """It fails with a dead letter; the next one runs."""
    late = queue.submit(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    job = queue.submit(expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert [claim.token.job_id for claim in queue.claim()] == [job]
    assert queue.job(late)["state"] == "failed"
    assert msgspec.json.decode(queue.job(late)["error"])["code"] == ErrorCode.JOB_EXPIRED
    assert queue.picture() == {
        **EMPTY, "waiting": [job], "leases": [job], "processing": [job], "failed": [late], "dead": ["expired"],
        "unacknowledged": 1,
    }  # fmt: skip
