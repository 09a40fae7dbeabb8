"""Settling a run: each outcome by its verb, once, while the lease holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from tests.runs import KEYS, LIMITS, Clock, Server, run_in_hand

from soundfleet_producer.queue.verbs import Reply
from soundfleet_schemas import ErrorCode, ErrorInfo, JobResult, error
from soundfleet_worker.supervisor import clock, settle
from soundfleet_worker.supervisor.outcome import Completed, Failed, Outcome, Stop
from soundfleet_worker.supervisor.run import Run
from soundfleet_worker.supervisor.tools import Tools


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The worker's clock, set by hand."""
    hands = Clock()
    monkeypatch.setattr(clock, "now", hands)
    return hands


@pytest.fixture
def run(time: Clock, tmp_path: Path) -> Iterator[Run]:
    """A run whose lease began now."""
    with run_in_hand(time, tmp_path) as run:
        yield run


def _result(run: Run) -> JobResult:
    return JobResult(job_id=run.token.job_id, attempt=1, output_dir="", processing_time=1, model_used="m", file_size=0)


def _tools(server: Server) -> Tools:
    return cast(Tools, SimpleNamespace(keys=KEYS, limits=LIMITS, batcher=server))


_AWAY = error(ErrorCode.QUEUE_UNAVAILABLE, "away")
_LATER = error(ErrorCode.STORAGE_UNAVAILABLE, "s3").info
_NEVER = error(ErrorCode.AUDIO_CORRUPT, "mp3").info


@pytest.mark.parametrize(
    ("outcome", "verb"),
    [
        (None, "settle_completed"),
        (Failed(_LATER), "settle_failed"),
        (Failed(_NEVER), "settle_failed"),
        (Stop.cancelled, "settle_cancelled"),
        (Stop.drained, "release"),
    ],
)
async def test_every_outcome_has_its_verb(run: Run, outcome: Outcome | None, verb: str) -> None:
    """One exchange each."""
    server = Server()
    await settle.settle(run, outcome or Completed(_result(run), "f"), _tools(server))
    assert [name for name, _ in server.asked] == [verb]


@pytest.mark.parametrize(
    ("info", "tries", "final", "reason"),
    [(_LATER, 1, False, ""), (_LATER, 3, True, "attempts"), (_NEVER, 1, True, "permanent")],
)
async def test_a_failure_is_judged_by_the_attempts_that_count(
    run: Run, info: Any, tries: int, final: bool, reason: str
) -> None:
    """Crashes and drains are in the attempt's number and not in the tries."""
    run.claim = run.claim._replace(tries=tries)
    server = Server()
    await settle.settle(run, Failed(info, "d" * 10_000), _tools(server))
    args = server.asked[0][1]
    assert ((args[4] == -1), args[5], len(args[6])) == (final, reason, settle.DETAIL_CHARS)


async def test_nothing_is_said_of_a_lost_run(run: Run, time: Clock) -> None:
    """Told that it is lost, or found to be by the clock."""
    server = Server()
    await settle.settle(run, Stop.lost, _tools(server))
    time.sec += 9
    await settle.settle(run, Completed(_result(run), None), _tools(server))
    assert server.asked == []


async def test_a_settlement_is_repeated_while_redis_is_away_and_dropped_with_the_lease(run: Run, time: Clock) -> None:
    """Two failures and a success; then nothing but failures until the deadline."""
    server = Server(_AWAY, _AWAY, Reply.ok)
    await settle.settle(run, Stop.drained, _tools(server))
    assert len(server.asked) == 3
    time.sec += 8.5
    server = Server(*[_AWAY] * 50)
    settling = asyncio.create_task(settle.settle(run, Stop.drained, _tools(server)))
    await asyncio.sleep(0.12)
    time.sec += 0.5
    await settling
    assert 2 <= len(server.asked) < 10


async def test_a_superseded_settlement_changes_nothing_and_is_not_repeated(run: Run) -> None:
    """The fence has spoken."""
    server = Server(Reply.superseded)
    await settle.settle(run, Completed(_result(run), None), _tools(server))
    assert len(server.asked) == 1


@pytest.mark.parametrize("unready", [None, error(ErrorCode.BACKEND_NOT_READY, "the hub is away").info])
async def test_a_run_that_is_handed_back_says_why(run: Run, unready: ErrorInfo | None) -> None:
    """What this worker lacks, else that it shuts down: who watches the job sees it wait again."""
    server = Server()
    run.unready = unready
    await settle.settle(run, Stop.drained if unready is None else Stop.unready, _tools(server))
    why = msgspec.json.decode(server.asked[0][1][-1], type=ErrorInfo)
    assert why.code is ErrorCode.BACKEND_NOT_READY
    assert why.message == ("worker w shuts down before the job is done." if unready is None else "the hub is away.")
    assert why.action
