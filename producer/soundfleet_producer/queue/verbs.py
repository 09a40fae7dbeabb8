"""The verbs of the queue: each builds the exchange with one Lua script and reads its reply.

``submit`` (in its own file) · ``claim`` · ``renew`` · ``report`` · ``settle_completed`` · ``settle_failed`` ·
``settle_cancelled`` · ``release`` · ``forward`` · ``cancel`` · ``promote`` · ``expire`` · ``reap`` · ``sweep``.

The fence: ``Claim.token`` (worker, attempt) proves that a run still owns its job. Every verb of a running job checks
it on the server and answers ``superseded`` otherwise, changing nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from soundfleet_schemas import (
    ErrorCode,
    ErrorInfo,
    JobResult,
    JobStatus,
    Keys,
    Lane,
    Limits,
    ProgressUpdate,
    UploadSource,
    encode,
    error,
)

from .exchange import Exchange, script
from .room import ms, room, text
from .submit import BATCH, Draft, Submitted, submit, submit_many


class Reply(StrEnum):
    """What the server says of a fenced verb."""

    ok = "ok"
    cancel = "cancel"
    """Still yours, and its cancellation was asked for."""
    superseded = "superseded"
    """Not yours any more: another worker has it, or it is finished. Nothing was changed."""


class Token(NamedTuple):
    """The fence of one run."""

    job_id: str
    worker: str
    attempt: int


class Claim(NamedTuple):
    """One job in a worker's hands."""

    token: Token
    tries: int
    """Attempts that count against ``max_attempts``: neither crashes nor drains are charged."""
    crashes: int
    raw_request: bytes
    """As published; the worker decodes it, and settles what it cannot decode."""
    created_at_ms: int
    fetched: bytes = b""
    """What a fetch worker stored in the place of web addresses: uploads by the source's name, as JSON."""


class Claims(NamedTuple):
    """The answer to a claim."""

    jobs: list[Claim]
    created: tuple[str, ...]
    """Lanes whose consumer group was made: on first use; or it had vanished (a flushed or restored server): shout."""
    more: bool = False
    """Claim again at once: entries that came to nothing were passed over, and there may be jobs behind them."""


class Failure(NamedTuple):
    """What ``settle_failed`` is to record. ``retry_after_sec`` None is final, with ``reason`` on the dead letter."""

    error: ErrorInfo
    retry_after_sec: float | None
    reason: str = ""
    detail: str = ""
    waits_for: str | None = None
    """The unfinished job whose output is the source: the retry comes when it ends, and no attempt is charged."""


def claim(keys: Keys, worker: str, slots: int, lanes: Sequence[Lane], limits: Limits) -> Exchange[Claims]:
    """Take at most ``slots`` jobs from ``lanes``, in order of preference, each with its lease. Never blocks."""
    args: list[str | bytes | int] = [
        worker,
        slots,
        ms(limits.lease_sec),
        ms(limits.ageing_sec),
        limits.retain_failed_sec,
    ]

    def read(reply: list[Any]) -> Claims:
        jobs = [
            Claim(
                Token(text(job_id), worker, int(attempt)), int(tries), int(crashes), bytes(raw), int(created), fetched
            )
            for job_id, attempt, tries, crashes, raw, created, fetched in reply[0]
        ]
        return Claims(jobs, tuple(text(lane) for lane in reply[1]), bool(reply[2]))

    return Exchange(script("claim"), room(keys), [*args, *(str(lane) for lane in lanes)], read)


def renew(keys: Keys, worker: str, tokens: Sequence[Token], limits: Limits) -> Exchange[list[Reply]]:
    """Extend the leases of many runs of one worker; one reply per token, in order."""
    args: list[str | bytes | int] = [worker, ms(limits.lease_sec)]
    for token in tokens:
        args += [token.job_id, token.attempt]
    return Exchange(script("renew"), room(keys), args, lambda reply: [Reply(text(word)) for word in reply])


def report(keys: Keys, token: Token, progress: ProgressUpdate) -> Exchange[Reply]:
    """Record and publish the progress of a run."""
    args: list[str | bytes | int] = [*token, progress.percent, progress.stage, encode(progress)]
    return Exchange(script("report"), room(keys), args, _reply)


def settle_completed(
    keys: Keys, token: Token, result: JobResult, fingerprint: str | None, limits: Limits
) -> Exchange[Reply]:
    """Commit the output of a run: the one moment at which it becomes visible."""
    args: list[str | bytes | int] = [*token, encode(result), fingerprint or "", limits.retain_completed_sec]
    args.append(int(not result.cached))
    return Exchange(script("settle_completed"), room(keys), args, _reply)


def settle_failed(keys: Keys, token: Token, failure: Failure, limits: Limits) -> Exchange[Reply]:
    """Record a failed attempt: another one after a delay, or the end with a dead letter.

    A run whose cancellation was asked for is not retried: it ends cancelled.
    """
    delay = -1 if failure.retry_after_sec is None else ms(failure.retry_after_sec)
    args: list[str | bytes | int] = [
        *token,
        encode(failure.error),
        delay,
        failure.reason,
        failure.detail,
        limits.retain_failed_sec,
        failure.waits_for or "",
    ]
    return Exchange(script("settle_failed"), room(keys), args, _reply)


def settle_cancelled(keys: Keys, token: Token, info: ErrorInfo, limits: Limits) -> Exchange[Reply]:
    """End a run whose cancellation was asked for; ``info`` says at which step it stopped."""
    args: list[str | bytes | int] = [*token, encode(info), limits.retain_failed_sec]
    return Exchange(script("settle_cancelled"), room(keys), args, _reply)


def release(keys: Keys, token: Token, limits: Limits, why: ErrorInfo | None = None) -> Exchange[Reply]:
    """Hand a run back: it waits at the front, no attempt charged, and its event says why. A cancelled one ends."""
    reason = b"" if why is None else encode(why)
    return Exchange(script("release"), room(keys), [*token, limits.retain_failed_sec, reason], _reply)


def forward(
    keys: Keys, token: Token, lane: Lane, fetched: Mapping[str, UploadSource], limits: Limits
) -> Exchange[Reply]:
    """Hand a run on to another lane, no attempt charged: to its backend with what was ``fetched``, or to be fetched.

    It waits at the tail, as one that has not had its turn. A run that was cancelled ends.
    """
    document = msgspec.json.encode(fetched) if fetched else b""
    args: list[str | bytes | int] = [*token, str(lane), document, limits.retain_failed_sec]
    return Exchange(script("forward"), room(keys), args, _reply)


def cancel(keys: Keys, job_id: str, info: ErrorInfo, limits: Limits) -> Exchange[JobStatus]:
    """Cancel a job. A waiting one ends at once; a running one within a step: its worker is told, and it is still
    ``processing`` in the answer. A finished one answers with its state, unchanged. Raises JOB_NOT_FOUND.
    """

    def read(reply: Any) -> JobStatus:
        word = text(reply)
        if word == "missing":
            raise error(ErrorCode.JOB_NOT_FOUND, f"there is no job {job_id}")
        return JobStatus(word)

    return Exchange(script("cancel"), room(keys), [job_id, encode(info), limits.retain_failed_sec], read)


def promote(keys: Keys, at_most: int = 100) -> Exchange[int]:
    """Put jobs whose retry is due back into their lanes; return how many."""
    return Exchange(script("promote"), room(keys), [at_most], int)


def expire(keys: Keys, limits: Limits, at_most: int = 100) -> Exchange[int]:
    """Fail the jobs that have not started by their ``expires_at``; return how many."""
    return Exchange(script("expire"), room(keys), [at_most, limits.retain_failed_sec], int)


def reap(keys: Keys, info: ErrorInfo, limits: Limits, at_most: int = 100) -> Exchange[list[str]]:
    """Requeue the jobs whose lease ran out; at ``max_crashes`` they go to the dead letters with ``info``.

    Return the ids of the jobs that were reaped.
    """
    args: list[str | bytes | int] = [at_most, limits.max_crashes, encode(info), limits.retain_failed_sec]
    return Exchange(script("reap"), room(keys), args, lambda reply: [text(job_id) for job_id in reply])


def sweep(keys: Keys, at_most: int = 500) -> Exchange[int]:
    """Take jobs whose records have expired out of the indexes; return how many."""
    return Exchange(script("sweep"), room(keys), [at_most], int)


def _reply(reply: Any) -> Reply:
    return Reply(text(reply))


__all__ = [
    "BATCH",
    "Claim",
    "Claims",
    "Draft",
    "Failure",
    "Reply",
    "Submitted",
    "Token",
    "cancel",
    "claim",
    "expire",
    "forward",
    "promote",
    "reap",
    "release",
    "renew",
    "report",
    "room",
    "settle_cancelled",
    "settle_completed",
    "settle_failed",
    "submit",
    "submit_many",
    "sweep",
]
