"""What happens after a failure, as a pure function of facts."""

from __future__ import annotations

import random
from typing import NamedTuple, TypeAlias

from .errors import ErrorCode, ErrorInfo
from .limits import DEFAULT_LIMITS, Limits


class Retry(NamedTuple):
    """Try again after a delay."""

    after_sec: float


class Wait(NamedTuple):
    """Look again after a delay; nothing is charged, because nothing has failed."""

    after_sec: float


class Fail(NamedTuple):
    """Give up; ``reason`` goes to the dead letter."""

    reason: str


Verdict: TypeAlias = Retry | Wait | Fail

_LOOK_AGAIN_SEC = 60.0
"""The end of the job that is waited for ends the wait; this is for a wake-up that was lost."""
_MOST_DOUBLINGS = 64
"""Any cap is reached by then, and a float still holds the product."""


def verdict(
    error: ErrorInfo,
    attempt: int,
    limits: Limits = DEFAULT_LIMITS,
    *,
    waited_sec: float = 0.0,
    jitter: float | None = None,
) -> Verdict:
    """Judge the failure of attempt number ``attempt`` (from 1) of a job that was submitted ``waited_sec`` ago.

    Permanent errors fail at once. Transient ones are retried up to ``max_attempts`` attempts in all, after an
    exponential delay with full jitter; ``jitter`` in [0, 1) replaces the random draw. A job whose source is the
    output of an unfinished job waits for that one, up to ``max_source_wait_sec``.
    """
    if error.code is ErrorCode.SOURCE_JOB_PENDING:
        return Wait(_LOOK_AGAIN_SEC) if waited_sec < limits.max_source_wait_sec else Fail("waited")
    if not error.retryable:
        return Fail("permanent")
    if attempt >= limits.max_attempts:
        return Fail("attempts")
    ceiling = min(limits.retry_cap_sec, limits.retry_base_sec * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS))
    return Retry(ceiling * (random.random() if jitter is None else jitter))


def run_limit_sec(audio_sec: float, requested_sec: float | None, limits: Limits = DEFAULT_LIMITS) -> float:
    """Return the time limit of one run: what was requested, else by the length of the audio."""
    if requested_sec is not None:
        return requested_sec
    return limits.long_run_sec if audio_sec > limits.long_audio_sec else limits.short_run_sec
