"""A run in hand: what stops it, how long its lease is trusted, and what it tells."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from tests.runs import KEYS, LIMITS, Clock, Server, run_in_hand

from soundfleet_producer.queue.verbs import Reply
from soundfleet_schemas import (
    DEFAULT_LIMITS,
    ErrorCode,
    GenerationRequest,
    ProgressUpdate,
    SoundfleetError,
    Stage,
    encode,
    error,
    new_id,
)
from soundfleet_worker.supervisor import clock
from soundfleet_worker.supervisor.duties.control import Control
from soundfleet_worker.supervisor.duties.leases import Renewer, Watchman
from soundfleet_worker.supervisor.outcome import Stop
from soundfleet_worker.supervisor.prepare import read
from soundfleet_worker.supervisor.reporter import News, Reporter
from soundfleet_worker.supervisor.run import Run


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


def test_a_lease_is_trusted_for_nine_tenths_of_its_time_from_when_it_was_asked_for(run: Run, time: Clock) -> None:
    """The answer's travel is not counted, and neither is the last tenth."""
    time.sec += 8.9
    assert run.trusted
    run.renewed(time.sec - 5)
    time.sec += 3.9
    assert run.trusted
    time.sec += 0.2
    assert not run.trusted
    with pytest.raises(asyncio.CancelledError):
        run.check_lease()
    assert run.stop_reason is Stop.lost


async def test_a_stop_before_the_first_step_is_not_forgotten(run: Run) -> None:
    """The task has not begun yet: it ends where it begins."""
    run.stop(Stop.cancelled)
    with pytest.raises(asyncio.CancelledError):
        run.begin()


async def test_a_stronger_reason_overrules_a_weaker_one_and_never_the_other_way(run: Run) -> None:
    """A lost lease silences a drain; a drain does not revive a lost run."""
    run.stop(Stop.drained)
    run.stop(Stop.lost)
    run.stop(Stop.cancelled)
    assert run.stop_reason is Stop.lost


async def test_a_settlement_is_not_interrupted(run: Run) -> None:
    """What is being committed is committed."""
    run.begin()
    run.end()
    run.stop(Stop.cancelled)
    assert run.stop_reason is None


async def test_clean_up_waits_for_the_last_thread_that_may_write(run: Run) -> None:
    """A stopped run's download goes on in its thread; its directory is removed after it."""
    began, go, path = threading.Event(), threading.Event(), run.directory

    def write() -> None:
        path.mkdir()
        began.set()
        go.wait(10)
        (path / "late").write_text("x")

    with ThreadPoolExecutor(1) as pool:
        task = asyncio.create_task(run.in_thread(pool, write))
        await asyncio.to_thread(began.wait, 10)
        task.cancel()
        cleaning = asyncio.create_task(run.clean_up())
        await asyncio.sleep(0.05)
        assert path.exists()
        go.set()
        await cleaning
    assert not path.exists()


def _progress(server: Server) -> list[ProgressUpdate]:
    return [msgspec.json.decode(args[-1], type=ProgressUpdate) for name, args in server.asked if name == "report"]


async def test_progress_is_told_every_five_points_and_at_every_stage(run: Run) -> None:
    """A thousand steps make twenty reports, not a thousand."""
    server = Server()
    reporter = Reporter(run, KEYS, cast(Any, server))
    reporter.track_id = "t"
    for step in range(101):
        reporter.tell(News(Stage.infer, step, 100, lambda: 1.5))
        await asyncio.sleep(0.011)  # the reporter's own timer is what is tested
    reporter.tell(News(Stage.deliver, 100, 100, lambda: 0.5))
    await asyncio.sleep(0.1)
    reporter.close()
    told = _progress(server)
    assert 10 <= len(told) <= 22
    percents = [update.percent for update in told]
    assert percents == sorted(percents)
    assert (percents[-1], told[-1].stage, told[-1].eta_sec, told[-1].track_id) == (99, Stage.deliver, 0.5, "t")
    assert told[0].stage is Stage.infer


async def test_a_run_that_was_begun_again_says_so(run: Run) -> None:
    """Another engine starts it from nothing: the percentage falls, and is told."""
    server = Server()
    reporter = Reporter(run, KEYS, cast(Any, server))
    for step in (60, 0):
        reporter.tell(News(Stage.infer, step, 100, lambda: None))
        await asyncio.sleep(0.1)
    reporter.close()
    assert [update.percent for update in _progress(server)] == [60, 0]


async def test_a_run_of_a_moment_is_not_reported(run: Run) -> None:
    """News is held for newer news; a settled run has none."""
    server = Server()
    reporter = Reporter(run, KEYS, cast(Any, server))
    reporter.tell(News(Stage.prepare, 0, 0, lambda: None))
    reporter.tell(News(Stage.infer, 1, 1, lambda: None))
    reporter.close()
    await asyncio.sleep(0.1)
    assert server.asked == []


@pytest.mark.parametrize(
    ("reply", "reason"), [(Reply.ok, None), (Reply.cancel, Stop.cancelled), (Reply.superseded, Stop.lost)]
)
async def test_replies_to_reports_and_renewals_are_obeyed(run: Run, reply: Reply, reason: Stop | None) -> None:
    """Cancelled, or another's: the run stops."""
    server = Server([reply])
    await Renewer("w", {"id": run}, KEYS, LIMITS, cast(Any, server)).tick()
    assert run.stop_reason is reason
    run.stop_reason = None
    reporter = Reporter(run, KEYS, cast(Any, Server(reply)))
    reporter.tell(News(Stage.infer, 1, 2, lambda: None))
    await asyncio.sleep(0.1)
    reporter.close()
    assert run.stop_reason is reason


async def test_all_runs_are_renewed_in_one_script_and_the_lease_counts_from_the_asking(run: Run, time: Clock) -> None:
    """One exchange, however many runs; a superseded one is not renewed."""
    other = Run(run.claim, time.sec, LIMITS, run._scratch, run.log)
    server = Server([Reply.ok, Reply.superseded])
    time.sec += 4
    await Renewer("w", {"a": run, "b": other}, KEYS, LIMITS, cast(Any, server)).tick()
    assert [name for name, _ in server.asked] == ["renew"]
    assert (run.deadline, other.deadline) == (1013.0, 1009.0)


async def test_the_watchman_gives_up_what_could_not_be_renewed(run: Run, time: Clock) -> None:
    """By this machine's own clock, whatever Redis may think."""
    watchman = Watchman({"a": run}, LIMITS)
    await watchman.tick()
    assert run.stop_reason is None
    time.sec += 9
    await watchman.tick()
    assert run.stop_reason is Stop.lost


async def test_control_cancels_the_run_it_names_and_no_other(run: Run) -> None:
    """A job that is not in hand is nobody's business here."""
    control = Control("w", {run.token.job_id: run}, KEYS, None)
    control.hear(b"somebody else's")
    assert run.stop_reason is None
    control.hear(run.token.job_id.encode())
    assert run.stop_reason is Stop.cancelled


def test_a_request_without_a_seed_gets_the_same_one_in_every_attempt() -> None:
    """It was published by another language, past the producer's door."""
    request = GenerationRequest(prompt="p", duration_sec=5, backend="sketch")
    first, second = (read(encode(request), request.id) for _ in range(2))
    assert isinstance(first, GenerationRequest)
    assert first == second
    assert first.seed is not None
    assert DEFAULT_LIMITS.max_attempts > 1


def test_a_request_under_another_id_is_refused() -> None:
    """Its progress and its result would be told of the wrong job."""
    request = GenerationRequest(prompt="p", duration_sec=5, backend="sketch")
    with pytest.raises(SoundfleetError) as caught:
        read(encode(request), new_id())
    assert caught.value.code is ErrorCode.INVALID_MESSAGE


async def test_the_error_of_a_call_whose_run_was_stopped_is_not_complained_about(run: Run) -> None:
    """The thread goes on, fails, and nobody awaits it: asyncio must not print a traceback of it."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    begun, go = threading.Event(), threading.Event()

    def fail() -> None:
        begun.set()
        go.wait(10)
        raise error(ErrorCode.STORAGE_UNAVAILABLE, "the storage is away")

    with ThreadPoolExecutor(1) as pool:
        waiting = asyncio.create_task(run.in_thread(pool, fail))
        await asyncio.to_thread(begun.wait, 10)
        waiting.cancel()
        await asyncio.wait({waiting})
        go.set()
        await run.clean_up()
    run._calls.clear()  # what still holds the future, of which asyncio complains when it goes
    del waiting
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []
