"""The lifecycle of a job.

Two rules: a job only moves forward, and every way out of it is final.
A retry is another attempt inside ``processing``; a redrive is a new job.
"""

from __future__ import annotations

from enum import StrEnum

from .errors import ErrorCode, error


class JobStatus(StrEnum):
    """The five states of a job."""

    pending = "pending"
    processing = "processing"
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"


TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.pending: frozenset({JobStatus.processing, JobStatus.completed, JobStatus.failed, JobStatus.cancelled}),
    JobStatus.processing: frozenset({JobStatus.completed, JobStatus.failed, JobStatus.cancelled}),
    JobStatus.completed: frozenset(),
    JobStatus.failed: frozenset(),
    JobStatus.cancelled: frozenset(),
}
"""``pending -> completed`` is the answer from the cache: the work was done before."""

FINAL = frozenset(state for state, following in TRANSITIONS.items() if not following)


def advance(current: JobStatus, following: JobStatus) -> JobStatus:
    """Return ``following`` if the table allows the move, else raise ILLEGAL_TRANSITION naming both states."""
    if following not in TRANSITIONS[current]:
        raise error(ErrorCode.ILLEGAL_TRANSITION, f"a job cannot go from {current} to {following}")
    return following
