"""Settle: say how the run ended, once, while the lease holds."""

from __future__ import annotations

import asyncio
import time

from soundfleet_producer.queue.exchange import Exchange
from soundfleet_producer.queue.verbs import (
    Failure,
    Reply,
    forward,
    release,
    settle_cancelled,
    settle_completed,
    settle_failed,
)
from soundfleet_schemas import (
    ErrorCode,
    ErrorInfo,
    Fail,
    Limits,
    Retry,
    SeparationRequest,
    SoundfleetError,
    Verdict,
    Wait,
    error,
    verdict,
)

from ..logging import Event
from . import clock
from .outcome import Completed, Failed, Forward, Outcome, Stop
from .run import Run
from .tools import Tools

PAUSE_SEC = (0.05, 1.0)
DETAIL_CHARS = 4000


async def settle(run: Run, outcome: Outcome, tools: Tools) -> None:
    """Commit the outcome. While Redis is away it is tried again until the lease may be another's, then dropped."""
    if outcome is Stop.lost or not run.trusted:
        run.log.warning(Event.lost, stage=run.stage)
        return
    exchange = _exchange(run, outcome, tools)
    pause = PAUSE_SEC[0]
    while True:
        try:
            reply = await tools.batcher.perform(exchange)
        except SoundfleetError as exc:
            if exc.code is not ErrorCode.QUEUE_UNAVAILABLE or clock.now() + pause >= run.deadline:
                run.log.error(Event.unsettled, error=str(exc))
                return
            await asyncio.sleep(pause)
            pause = min(PAUSE_SEC[1], 2 * pause)
        else:
            break
    if reply is Reply.superseded:
        run.log.warning(Event.superseded)
    else:
        _log(run, outcome, tools)


def _exchange(run: Run, outcome: Outcome, tools: Tools) -> Exchange[Reply]:
    keys, limits = tools.keys, tools.limits
    match outcome:
        case Completed(result, track_id):
            return settle_completed(keys, run.token, result, track_id, limits)
        case Forward(lane, fetched):
            return forward(keys, run.token, lane, fetched, limits)
        case Failed():
            return settle_failed(keys, run.token, _failure(outcome, judge(run, outcome.error, limits)), limits)
        case Stop.cancelled:
            return settle_cancelled(keys, run.token, cancellation(run), limits)
        case _:
            return release(keys, run.token, limits, run.unready or _drained(run))


def judge(run: Run, info: ErrorInfo, limits: Limits) -> Verdict:
    """What becomes of a run that failed."""
    waited_sec = time.time() - run.claim.created_at_ms / 1000
    return verdict(info, run.claim.tries, limits, waited_sec=waited_sec)


def _failure(failed: Failed, judgement: Verdict) -> Failure:
    info, detail = failed.error, failed.detail[-DETAIL_CHARS:]
    match judgement:
        case Retry(after_sec):
            return Failure(info, after_sec, detail=detail)
        case Wait(after_sec):
            return Failure(info, after_sec, detail=detail, waits_for=failed.waits_for)
        case Fail(reason):
            return Failure(info, None, reason, detail)


def _drained(run: Run) -> ErrorInfo:
    """Say why a worker that shuts down hands a run back."""
    said = f"worker {run.token.worker} shuts down before the job is done"
    return error(ErrorCode.BACKEND_NOT_READY, said, "Wait for another worker; no attempt is charged.").info


def cancellation(run: Run) -> ErrorInfo:
    """Say where a cancelled run stopped."""
    separates = isinstance(run.request, SeparationRequest)
    code = ErrorCode.SEPARATION_CANCELLED if separates else ErrorCode.GENERATION_CANCELLED
    where = f"at step {run.current_step} of {run.total_steps}" if run.total_steps else f"in stage {run.stage}"
    return error(code, f"the job was cancelled {where}").info


def _log(run: Run, outcome: Outcome, tools: Tools) -> None:
    took_sec = round(clock.now() - run.started, 3)
    match outcome:
        case Completed(result, _):
            run.log.info(Event.completed, sec=took_sec, bytes=result.file_size, cached=result.cached)
        case Forward(lane, _):
            run.log.info(Event.forwarded, sec=took_sec, lane=str(lane))
        case Failed(info, detail, _):
            again = info.retryable and run.claim.tries < tools.limits.max_attempts
            level = run.log.warning if again else run.log.error
            cause = {"detail": detail[-DETAIL_CHARS:]} if detail else {}
            level(Event.retrying if again else Event.failed, code=info.code, error=str(info), stage=run.stage, **cause)
        case Stop.cancelled:
            run.log.info(Event.cancelled, stage=run.stage, step=run.current_step)
        case _:
            run.log.info(Event.released, stage=run.stage)
