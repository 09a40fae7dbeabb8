"""The verb ``submit``: creates jobs once, or finds them; or answers them from finished work.

A redrive is a submit whose request names the failed job that it redoes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from soundfleet_schemas import (
    ErrorCode,
    JobRequest,
    JobStatus,
    Keys,
    Limits,
    SoundfleetError,
    encode,
    error,
    lane_of,
)

from .exchange import Exchange, script
from .room import room, text


class Submitted(NamedTuple):
    """The answer to a submit: the job exists now."""

    id: str
    outcome: str
    """created, exists (the same request under the same id), or cached (finished work answered)."""
    status: JobStatus


class Draft(NamedTuple):
    """A validated request on its way into the queue."""

    request: JobRequest
    fingerprint: str | None
    estimated_sec: int = 0


BATCH = 100
"""Most drafts in one exchange: a script blocks the server while it runs."""


def submit_many(keys: Keys, drafts: Sequence[Draft], limits: Limits) -> Exchange[list[Submitted | SoundfleetError]]:
    """Create up to ``BATCH`` jobs, each once, whatever is repeated; an error stands in the place of its draft.

    The errors: QUEUE_FULL, JOB_CONFLICT, and of a redrive JOB_NOT_FOUND and ILLEGAL_TRANSITION. A finished job
    with the same fingerprint answers at once unless the request says not to.
    """
    args: list[str | bytes | int] = [limits.max_pending, limits.retain_completed_sec]
    for request, fingerprint, estimated_sec in drafts:
        args += (
            request.id,
            encode(request),
            str(lane_of(request)),
            fingerprint or "",
            int(request.use_cache),
            "" if request.expires_at is None else int(request.expires_at.timestamp() * 1000),
            estimated_sec,
            request.retried_from or "",
        )

    def read(replies: list[list[Any]]) -> list[Submitted | SoundfleetError]:
        return [_submitted(draft.request, reply, limits) for draft, reply in zip(drafts, replies, strict=True)]

    return Exchange(script("submit"), room(keys), args, read)


def submit(
    keys: Keys, request: JobRequest, fingerprint: str | None, limits: Limits, estimated_sec: int = 0
) -> Exchange[Submitted]:
    """Create one job; raises what ``submit_many`` returns."""
    many = submit_many(keys, [Draft(request, fingerprint, estimated_sec)], limits)

    def read(reply: Any) -> Submitted:
        outcome = many.read(reply)[0]
        if isinstance(outcome, SoundfleetError):
            raise outcome
        return outcome

    return Exchange(many.script, many.keys, many.args, read)


def _submitted(request: JobRequest, reply: list[Any], limits: Limits) -> Submitted | SoundfleetError:
    match text(reply[0]):
        case "created" | "exists" | "cached" as outcome:
            return Submitted(request.id, outcome, JobStatus(text(reply[1])))
        case "full":
            return error(ErrorCode.QUEUE_FULL, _full(*map(int, reply[1:]), limits=limits))
        case "conflict":
            return error(ErrorCode.JOB_CONFLICT, f"job {request.id} exists with another request")
        case "invalid":
            return error(ErrorCode.INVALID_MESSAGE, f"the submission was refused: {text(reply[1])}")
        case "not_failed":
            return error(ErrorCode.ILLEGAL_TRANSITION, f"job {request.retried_from} is {text(reply[1])}, not failed")
        case "redriven":
            return error(ErrorCode.JOB_CONFLICT, f"job {request.retried_from} was redriven as {text(reply[1])}")
        case _:
            return error(ErrorCode.JOB_NOT_FOUND, f"there is no job {request.retried_from} to redrive")


def _full(waiting: int, completed: int, in_sec: int, *, limits: Limits) -> str:
    """Say the position and, by the fleet's pace of late, the wait."""
    wait = f"about {-(-waiting * in_sec // completed)} s" if completed else "unknown"
    return f"{waiting} jobs wait, of {limits.max_pending}; yours would be number {waiting + 1}; wait: {wait}"
