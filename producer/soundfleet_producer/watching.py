"""Following a job: its events from any point on, and the wait for its end. Both outlive a restart of Redis."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import redis

from soundfleet_schemas import FINAL, ErrorCode, Job, JobStatus, Keys, QueueError, SoundfleetError, error

from .queue.records import FIRST_EVENT, Entry, Fields, first_event, last_event, read_events, read_job
from .steps import Await, EventSteps, Pause, Read, Steps

BLOCK_SEC = 10.0
"""One blocking read; after it the job's record is looked at, whatever the stream says."""
RECONNECT_SEC = 60.0
"""How long a watch bears a Redis that is away."""
_PAUSES_SEC = (0.1, 0.2, 0.5, 1.0)
_BEGINNING = "0-0"
_EVENT_ID = re.compile(r"\d{1,20}(-\d{1,20})?")


class Patience:
    """Pauses between tries while Redis is away, for at most ``RECONNECT_SEC``."""

    def __init__(self) -> None:
        self._tries = 0
        self._waited_sec = 0.0

    def pause(self, exc: SoundfleetError) -> Pause:
        """The pause before the next try. Raises ``exc`` when another try cannot help or the patience is at its end."""
        cause = exc.__cause__
        passing = isinstance(cause, redis.ConnectionError | redis.TimeoutError)
        if not passing or isinstance(cause, redis.AuthenticationError) or self._waited_sec >= RECONNECT_SEC:
            raise exc
        seconds = _PAUSES_SEC[min(self._tries, len(_PAUSES_SEC) - 1)]
        self._tries += 1
        self._waited_sec += seconds
        return Pause(seconds)


class Deadline:
    """The end of a wait, if it has one."""

    def __init__(self, timeout_sec: float | None, clock: Callable[[], float]) -> None:
        if timeout_sec is not None and math.isnan(timeout_sec):
            raise error(ErrorCode.INVALID_OPTION, "timeout_sec is not a number", "Leave it out to wait for the end.")
        self._timeout_sec = timeout_sec
        self._clock = clock
        self._start = clock()

    @property
    def left_sec(self) -> float:
        return math.inf if self._timeout_sec is None else self._start + self._timeout_sec - self._clock()

    def block_ms(self, job_id: str) -> int:
        """How long the next read may block. Raises RESULT_TIMEOUT when no time is left."""
        if self.left_sec <= 0:
            raise error(ErrorCode.RESULT_TIMEOUT, f"job {job_id} has not ended within {self._timeout_sec:g} s")
        return max(1, int(1000 * min(BLOCK_SEC, self.left_sec)))


def watch(keys: Keys, job_id: str, after: str | None, deadline: Deadline) -> EventSteps:
    """Yield the events of a job after the event id ``after`` (all of them when None), up to the terminal one.

    Raises JOB_NOT_FOUND, also when Redis came back without the job, and RESULT_TIMEOUT.
    """
    if after is not None and not _EVENT_ID.fullmatch(after):
        raise error(ErrorCode.INVALID_OPTION, f"after is {after!r}; it takes the id of an event")
    seen, patience, connected = after or _BEGINNING, Patience(), False
    while True:
        try:
            fields, entries, newest = yield _snapshot(keys, job_id, seen)
        except QueueError as exc:
            if not connected:
                raise
            yield patience.pause(exc)
            continue
        _require(job_id, fields)
        if not connected and after is None:
            seen = FIRST_EVENT
            yield first_event(job_id, int(fields[b"created_at"]))
        connected, patience = True, Patience()
        while True:
            for event in read_events(entries):
                yield event
                if event.terminal:
                    return
            seen = entries[-1][0].decode() if entries else seen
            if not entries and JobStatus(fields[b"state"].decode()) in FINAL:
                if not _told(newest):
                    yield last_event(job_id, fields)
                return
            try:
                entries = yield Await(keys.events(job_id), seen, deadline.block_ms(job_id))
            except QueueError as exc:
                yield patience.pause(exc)
                break
            if not entries:
                break


def finished(keys: Keys, job_id: str, deadline: Deadline) -> Steps[Job]:
    """Wait for the end of a job. Raises RESULT_TIMEOUT, JOB_NOT_FOUND."""
    patience, connected = Patience(), False
    while True:
        try:
            newest, fields = yield _state(keys, job_id)
            connected = True
            job = read_job(job_id, fields)
            if job.finished:
                return job
            after = newest[0][0].decode() if newest else _BEGINNING
            yield Await(keys.events(job_id), after, deadline.block_ms(job_id))
            patience = Patience()
        except QueueError as exc:
            if not connected or deadline.left_sec <= 0:
                raise
            yield patience.pause(exc)


def _snapshot(keys: Keys, job_id: str, after: str) -> Read:
    """The record, the events after ``after``, and the newest event.

    The record is read first: when it says that the job is finished, the stream holds the terminal event.
    """

    def queue(pipe: Any) -> None:
        pipe.hgetall(keys.job(job_id))
        pipe.xrange(keys.events(job_id), min=f"({after}")
        pipe.xrevrange(keys.events(job_id), count=1)

    return Read(queue)


def _state(keys: Keys, job_id: str) -> Read:
    """The newest event, and then the record: what comes after that event wakes the wait."""

    def queue(pipe: Any) -> None:
        pipe.xrevrange(keys.events(job_id), count=1)
        pipe.hgetall(keys.job(job_id))

    return Read(queue)


def _require(job_id: str, fields: Fields) -> None:
    if b"state" not in fields:
        raise error(ErrorCode.JOB_NOT_FOUND, f"there is no job {job_id}")


def _told(newest: list[Entry]) -> bool:
    """Whether the stream ends with the terminal event: then a reader who has no newer entry has had it."""
    return any(event.terminal for event in read_events(newest))
