"""Where a waiting job stands in its queue."""

from __future__ import annotations

import pytest

from soundfleet_producer.queue import place as places
from soundfleet_producer.queue.place import place
from soundfleet_schemas import Priority

from .conftest import Queue


def ahead(queue: Queue, job: str) -> int | None:
    """What the server says."""
    return queue.do(place(queue.keys, job))


def test_the_first_job_of_a_lane_that_nobody_has_read_has_nobody_before_it(queue: Queue) -> None:
    """The consumer group does not exist yet."""
    jobs = [queue.submit() for _ in range(3)]
    assert [ahead(queue, job) for job in jobs] == [0, 1, 2]


def test_all_of_the_high_lane_goes_first(queue: Queue) -> None:
    """And a high job is before every normal one."""
    normal = queue.submit()
    high = [queue.submit(priority=Priority.High) for _ in range(2)]
    assert ahead(queue, normal) == 2
    assert [ahead(queue, job) for job in high] == [0, 1]


def test_a_job_that_was_claimed_stands_nowhere_and_counts_no_more(queue: Queue) -> None:
    """What runs is not before anybody."""
    first, second, third = (queue.submit() for _ in range(3))
    queue.claim("alice", 1)
    assert [ahead(queue, job) for job in (first, second, third)] == [None, 0, 1]


def test_an_unknown_job_stands_nowhere(queue: Queue) -> None:
    """Nor does one that is past its retention."""
    assert ahead(queue, "nobody") is None


def test_the_count_is_bounded(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script blocks the server."""
    monkeypatch.setattr(places, "MOST_COUNTED", 5)
    jobs = [queue.submit() for _ in range(9)]
    assert ahead(queue, jobs[-1]) == 5
