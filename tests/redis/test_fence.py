"""The fence: (worker, attempt) proves that a run owns its job; whoever lost it changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.exchange import Exchange
from soundfleet_producer.queue.records import read_events
from soundfleet_schemas import ErrorCode, Limits, ProgressUpdate, error

from .conftest import EMPTY, FETCHED, Queue, cancelled, crash, result_of

EXPIRED = Limits(lease_sec=0.0)
PROGRESS = ProgressUpdate(track_id="t", percent=40, current_step=2, total_steps=5, eta_sec=1.5)

FENCED: dict[str, Callable[[Queue, verbs.Token], Exchange[verbs.Reply]]] = {
    "report": lambda q, t: verbs.report(q.keys, t, PROGRESS),
    "settle_completed": lambda q, t: verbs.settle_completed(q.keys, t, result_of(t), "f" * 64, q.limits),
    "settle_failed": lambda q, t: verbs.settle_failed(q.keys, t, verbs.Failure(crash(), 1.0), q.limits),
    "fail for good": lambda q, t: verbs.settle_failed(q.keys, t, verbs.Failure(crash(), None, "permanent"), q.limits),
    "settle_cancelled": lambda q, t: verbs.settle_cancelled(q.keys, t, cancelled(), q.limits),
    "forward": lambda q, t: verbs.forward(q.keys, t, q.lanes[1], FETCHED, q.limits),
    "release": lambda q, t: verbs.release(q.keys, t, q.limits),
}


@pytest.mark.parametrize("verb", FENCED)
@pytest.mark.parametrize("stale", ["reaped", "claimed by another", "finished by another", "claimed again by itself"])
def test_a_superseded_run_changes_nothing(queue: Queue, verb: str, stale: str) -> None:
    """A stopped worker that wakes up finds its job gone, whatever it tries."""
    job = queue.submit()
    token = queue.take("alice", EXPIRED)
    assert queue.reap() == [job]
    if stale != "reaped":
        following = queue.take("alice" if stale == "claimed again by itself" else "bob")
        if stale == "finished by another":
            queue.complete(following)
    before = (queue.picture(), queue.job(job), queue.events(job))
    assert queue.do(FENCED[verb](queue, token)) is verbs.Reply.superseded
    assert (queue.picture(), queue.job(job), queue.events(job)) == before


def test_only_the_first_of_two_settlements_counts(queue: Queue) -> None:
    """A settle whose reply was lost is sent again: the second is told that the job is settled."""
    queue.submit()
    token = queue.take()
    assert [queue.complete(token) for _ in range(2)] == [verbs.Reply.ok, verbs.Reply.superseded]


def test_renewing_moves_the_lease_of_those_that_are_still_owned(queue: Queue) -> None:
    """One exchange for all runs of a worker; each is answered."""
    kept, lost = queue.submit(), queue.submit()
    tokens = [queue.take("alice", EXPIRED), queue.take("alice")]
    stale = verbs.Token(lost, "alice", 7)
    assert queue.do(verbs.renew(queue.keys, "alice", [tokens[0], stale], queue.limits)) == ["ok", "superseded"]
    assert queue.reap() == []
    assert queue.client.zscore(queue.keys.leases, kept) > queue.client.zscore(queue.keys.leases, lost) - 1000


def test_progress_is_recorded_and_told(queue: Queue) -> None:
    """The record has the number, the stream the whole update."""
    job = queue.submit()
    assert queue.do(verbs.report(queue.keys, queue.take(), PROGRESS)) is verbs.Reply.ok
    assert (queue.job(job)["progress"], queue.job(job)["stage"]) == ("40", "infer")
    assert queue.events(job) == ["claimed", "progress"]


def test_a_released_job_waits_at_the_front_and_no_attempt_is_charged(queue: Queue) -> None:
    """A drain is not the job's fault: it has had its turn. Its fence still moves on."""
    job, _following = queue.submit(), queue.submit()
    assert queue.do(verbs.release(queue.keys, queue.take(), queue.limits)) is verbs.Reply.ok
    assert queue.members(queue.keys.leases) == []
    (claim,) = queue.claim("bob", 1)
    assert (claim.token.job_id, claim.token.attempt, claim.tries) == (job, 2, 1)


def test_a_release_tells_why(queue: Queue) -> None:
    """Who watches sees by whom the job was handed back, and for what; without a reason there is none."""
    job, why = queue.submit(), error(ErrorCode.BACKEND_NOT_READY, "the hub is away").info
    assert queue.do(verbs.release(queue.keys, queue.take(), queue.limits, why)) is verbs.Reply.ok
    assert queue.do(verbs.release(queue.keys, queue.take("bob"), queue.limits)) is verbs.Reply.ok
    events = [event for event in read_events(queue.client.xrange(queue.keys.events(job))) if event.type == "requeued"]
    assert [(event.worker, event.error) for event in events] == [("alice", why), ("bob", None)]


def test_a_cancelled_run_that_is_released_ends(queue: Queue) -> None:
    """A drain must not start it again elsewhere."""
    job = queue.submit()
    token = queue.take()
    queue.cancel(job)
    assert queue.do(verbs.release(queue.keys, token, queue.limits)) is verbs.Reply.ok
    assert queue.picture() == {**EMPTY, "cancelled": [job]}
