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


PATIENT = Limits(ageing_sec=0.0)


def test_one_claim_in_four_gives_an_aged_normal_job_the_way(queue: Queue) -> None:
    """High priority must not starve normal jobs for ever, nor a normal backlog the high ones."""
    normal = [queue.submit() for _ in range(3)]
    queue.next_millisecond()
    for _ in range(9):
        queue.submit(priority=Priority.High)
    order = [queue.take("alice", PATIENT).job_id for _ in range(8)]
    assert [job in normal for job in order] == [False, False, False, True] * 2


def test_high_jobs_that_have_waited_longer_go_first(queue: Queue) -> None:
    """Ageing is for jobs that were overtaken."""
    high = [queue.submit(priority=Priority.High) for _ in range(8)]
    queue.next_millisecond()
    queue.submit()
    assert [queue.take("alice", PATIENT).job_id for _ in range(8)] == high


def test_no_slots_claim_nothing(queue: Queue) -> None:
    """Whatever has aged."""
    queue.submit()
    assert queue.claim("alice", 0, PATIENT) == []


def test_a_lane_without_jobs_or_group_is_simply_empty(queue: Queue) -> None:
    """A worker may start before the first publisher."""
    assert queue.do(verbs.claim(queue.keys, "alice", 4, queue.lanes, queue.limits)) == ([], (), False)


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


def test_many_tombstones_do_not_hide_the_job_behind_them(queue: Queue) -> None:
    """A claim passes over them in bounded rounds, and says that there is more to read."""
    for _ in range(30):
        queue.cancel(queue.submit())
    job = queue.submit()
    first, second = (
        queue.do(verbs.claim(queue.keys, "alice", 1, queue.lanes, queue.limits)) for _ in range(2)
    )  # fmt: skip
    assert (first.jobs, first.more) == ([], True)
    assert ([claim.token.job_id for claim in second.jobs], second.more) == ([job], False)
    assert queue.waiting() == [job]


DAMAGE = {
    "no request": lambda q, key: q.client.hdel(key, "request"),
    "no created_at": lambda q, key: q.client.hdel(key, "created_at"),
    "a date for expires_at": lambda q, key: q.client.hset(key, "expires_at", "2030-01-01T00:00:00Z"),
    "words for attempt": lambda q, key: q.client.hset(key, "attempt", "many"),
    "not a record": lambda q, key: (q.client.delete(key), q.client.set(key, "x")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_does_not_strand_its_neighbours(queue: Queue, damage: str) -> None:
    """They are delivered in the same read: each is claimed, or answered."""
    before, broken, after = (queue.submit() for _ in range(3))
    DAMAGE[damage](queue, queue.keys.job(broken))
    assert [claim.token.job_id for claim in queue.claim()] == [before, after]
    picture = queue.picture()
    assert (picture["dead"], set(picture["leases"]), picture["unacknowledged"]) == (["malformed"], {before, after}, 2)
    if damage != "not a record":
        assert queue.job(broken)["state"] == "failed"
        assert picture["failed"] == [broken]


def test_a_tombstone_that_outlived_its_record_is_no_malformed_entry(queue: Queue) -> None:
    """A cancelled job may be forgotten before anybody reads its entry."""
    job = queue.submit()
    queue.cancel(job)
    queue.client.delete(queue.keys.job(job))
    queue.next_millisecond()
    assert queue.claim(limits=Limits(retain_failed_sec=0)) == []
    assert queue.picture()["dead"] == []


def test_a_cancelled_job_is_not_claimed_even_when_its_entry_came_back(queue: Queue) -> None:
    """The last guard, whoever put it there."""
    job = queue.submit()
    queue.client.hset(queue.keys.job(job), "cancel", 1)
    assert queue.claim() == []
    assert queue.picture() == {**EMPTY, "cancelled": [job]}


def test_expired_jobs_do_not_fill_the_queue(queue: Queue) -> None:
    """They fail when they are due, whether or not a worker looks at their lane."""
    late = queue.submit(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    started = queue.submit(expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert queue.do(verbs.expire(queue.keys, queue.limits)) == 1
    assert queue.picture() == {
        **EMPTY, "waiting": [late, started], "pending": [started], "failed": [late], "dead": ["expired"],
    }  # fmt: skip
    assert [claim.token.job_id for claim in queue.claim()] == [started]


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
