"""What a person reads of a job's events: plain words, the reason of what did not go as wanted, nothing that steers."""

from __future__ import annotations

from typing import Any

import pytest
from rich.text import Text

from soundfleet_producer.cli import progress
from soundfleet_producer.cli.progress import JobProgress, describe
from soundfleet_schemas import ErrorCode, EventType, JobEvent, error

AWAY = error(ErrorCode.BACKEND_NOT_READY, "the hub is away", "Check HF_ENDPOINT.").info
BROKEN = error(ErrorCode.MODEL_INFERENCE_FAILED, "the model gave something that is no number", "Use fp32.").info
PENDING = error(ErrorCode.SOURCE_JOB_PENDING, "job 1 is processing").info


def event(kind: EventType, **fields: Any) -> JobEvent:
    return JobEvent(job_id="j", type=kind, at_ms=1_000, **fields)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            event(EventType.retry, attempt=2, error=BROKEN, retry_at_ms=3_500),
            "attempt 2 failed, again in 2.5 s: MODEL_INFERENCE_FAILED: the model gave something that is no number."
            " Use fp32.",
        ),
        (event(EventType.retry, attempt=1, error=PENDING, retry_at_ms=61_000), "waiting for its source"),
        (
            event(EventType.requeued, worker="w", error=AWAY),
            "handed back by worker w, waiting for another: BACKEND_NOT_READY: the hub is away. Check HF_ENDPOINT.",
        ),
        (event(EventType.requeued, worker="w"), "handed back by worker w, waiting for another"),
        (event(EventType.requeued), "waiting for a worker again"),
        (event(EventType.lost, worker="w"), "worker w was lost; waiting for another"),
        (event(EventType.failed, error=BROKEN), "failed: MODEL_INFERENCE_FAILED"),
    ],
    ids=["retry", "source", "unready", "older", "promoted", "lost", "failed"],
)
def test_an_event_is_described_with_its_reason(told: JobEvent, words: str) -> None:
    """By code and message; of a job that ends, the error itself follows on a line of its own."""
    assert Text.from_markup(describe(told)).plain == words


def test_what_an_error_quotes_neither_steers_the_terminal_nor_vanishes() -> None:
    """A file may be called anything."""
    hostile = error(ErrorCode.INTERNAL_ERROR, "'\x1b[2J[red]x[/]' is no song", "Rename it.").info
    words = Text.from_markup(describe(event(EventType.retry, attempt=1, error=hostile))).plain
    assert "\x1b" not in words
    assert "[red]x[/]" in words


def test_a_bar_leaves_behind_why_a_job_was_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal the bar goes on; what went wrong, and only that, stays on lines of its own."""
    from rich.console import Console

    console = Console(stderr=True, force_terminal=True, width=60, highlight=False, color_system=None)
    monkeypatch.setattr(progress, "err", console)
    with JobProgress() as shown:
        events = [
            event(EventType.claimed, attempt=1),
            event(EventType.retry, attempt=1, error=PENDING, retry_at_ms=2_000),
            event(EventType.retry, attempt=1, error=BROKEN, retry_at_ms=2_000),
            event(EventType.requeued),
            event(EventType.completed),
        ]
        assert shown.follow("generate", events).type is EventType.completed
    lines = capsys.readouterr().err
    assert lines.count("generate: attempt 1 failed, again in 1.0 s: MODEL_INFERENCE_FAILED") == 1
    assert "generate: waiting" not in lines
    assert max(len(line) for line in Text.from_ansi(lines).plain.splitlines() if "━" in line) <= 60
