"""What the command line says of mistakes and faults: one line, and an exit code that scripts can use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.commandline import CommandLine
from tests.hands import Hands

from soundfleet_producer import GenerationRequest, Producer
from soundfleet_schemas import ErrorCode


def _submit(producer: Producer) -> str:
    return producer.submit(GenerationRequest(prompt="warm lofi", duration_sec=30)).id


EXPECTED: list[tuple[list[str], int, str]] = [
    (["generate", ""], 2, "INVALID_PROMPT"),
    (["generate", "x", "--duration", "500"], 2, "INVALID_DURATION"),
    (["generate", "x", "--duration", "long"], 2, "--duration"),
    (["generate", "x", "--backend", "nobody"], 2, "soundfleet backends"),
    (["generate", "x", "--steps", "8"], 2, "inference_steps"),
    (["generate", "x", "--timeout", "3"], 2, "--watch"),
    (["generate", "x", "--expires-in", "nan"], 2, "--expires-in"),
    (["generate", "x", "--expires-in", "1e30"], 2, "--expires-in"),
    (["generate", "x", "--expires-in", "-5"], 2, "--expires-in"),
    (["generate", "x", "--time-limit", "nan"], 2, "--time-limit"),
    (["watch", "11111111-1111-4111-8111-111111111111", "--timeout", "nan"], 2, "--timeout"),
    (["generate", "x", "--out", "/proc/x"], 2, "/proc/x"),
    (["generate", "x", "--out", __file__], 2, "it is a file"),
    (["demo", "--out", __file__], 2, "it is a file"),
    (["local", "up", "--dir", "/proc/x"], 2, "/proc/x"),
    (["separate", ".", "-m", "htdemucs_mini"], 2, "is a directory"),
    (["generate"], 2, "PROMPT"),
    (["nonsense"], 2, "nonsense"),
    (["separate", "/nowhere/song.mp3", "-m", "htdemucs_mini"], 4, "SOURCE_NOT_FOUND"),
    (["separate", "ftp://x/y", "-m", "htdemucs_mini"], 2, "INVALID_SOURCE"),
    (["status", "11111111-1111-4111-8111-111111111111"], 4, "JOB_NOT_FOUND"),
    (["watch", "11111111-1111-4111-8111-111111111111"], 4, "JOB_NOT_FOUND"),
    (["dead", "show", "11111111-1111-4111-8111-111111111111"], 4, "JOB_NOT_FOUND"),
    (["dead", "redrive"], 2, "--all"),
    (["dead", "purge"], 2, "--yes"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), EXPECTED, ids=[" ".join(row[0]) for row in EXPECTED])
def test_an_expected_error_is_one_line_on_stderr(
    soundfleet: CommandLine, arguments: list[str], code: int, says: str
) -> None:
    """It names what is wrong; stdout stays empty; the exit code tells scripts."""
    said = soundfleet(*arguments)
    assert said.code == code
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert says in said.err


def test_an_error_of_a_json_command_is_a_document_on_stderr(soundfleet: CommandLine) -> None:
    """Scripts need not read prose."""
    said = soundfleet("generate", "", "--json")
    assert json.loads(said.err)["code"] == "INVALID_PROMPT"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["jobs", "--status", "bogus"], "INVALID_OPTION"),
        (["nonsense"], "INVALID_OPTION"),
        (["separate", "/no\udcffwhere.mp3"], "SOURCE_NOT_FOUND"),
    ],
)
def test_a_mistake_on_the_command_line_is_a_document_too(
    soundfleet: CommandLine, arguments: list[str], code: str
) -> None:
    """Whatever the mistake quotes, also names that are no text."""
    said = soundfleet(*arguments, "--json")
    assert (said.out, json.loads(said.err)["code"]) == ("", code)


@pytest.mark.parametrize("arguments", [[], ["dead"], ["local"]], ids=["bare", "dead", "local"])
def test_a_command_that_needs_another_shows_its_help(soundfleet: CommandLine, arguments: list[str]) -> None:
    """And no error, empty or not."""
    said = soundfleet(*arguments)
    assert said.code == 2
    assert "Usage: soundfleet" in said.out + said.err
    assert "error" not in said.err


def test_nothing_is_submitted_when_its_files_would_have_no_place(soundfleet: CommandLine, producer: Producer) -> None:
    """The directory is tried before the job is made."""
    assert soundfleet("generate", "warm lofi", "--out", __file__).code == 2
    assert producer.jobs() == []


def test_a_download_that_has_no_place_is_one_line(soundfleet: CommandLine, producer: Producer, hands: Hands) -> None:
    """The directory that was named is a file."""
    job_id = _submit(producer)
    hands.complete(hands.claim().token, {"drums": b"boom"})
    said = soundfleet("download", job_id, "--out", __file__)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "it is a file" in said.err


def test_a_storage_address_that_is_none_is_one_line(
    soundfleet: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The variable is named."""
    (tmp_path / "song.wav").write_bytes(b"music")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "bogus")
    said = soundfleet("separate", str(tmp_path / "song.wav"), "-m", "htdemucs_mini")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "AWS_ENDPOINT_URL_S3" in said.err


@pytest.mark.parametrize(("end", "code"), [("fail", 1), ("cancel", 6), ("wait", 5)])
def test_the_exit_code_of_watch_is_the_outcome_of_the_job(
    soundfleet: CommandLine, producer: Producer, hands: Hands, end: str, code: int
) -> None:
    """1 failed, 6 cancelled, 5 not ended in time."""
    job_id = _submit(producer)
    if end == "fail":
        hands.fail(hands.claim().token, ErrorCode.AUDIO_CORRUPT)
    elif end == "cancel":
        producer.cancel(job_id)
    assert soundfleet("watch", job_id, "--timeout", "0.2").code == code


def test_redis_that_is_away_is_exit_code_three(soundfleet: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is storage; doctor says which, and goes on looking."""
    monkeypatch.setenv("SOUNDFLEET_REDIS_URL", "redis://127.0.0.1:1/0")
    said = soundfleet("jobs")
    assert (said.code, len(said.err.splitlines())) == (3, 1)
    assert "SOUNDFLEET_REDIS_URL" in said.err
    examined = soundfleet("doctor", "--json")
    assert examined.code == 3
    assert {finding["what"]: finding["verdict"] for finding in examined.documents} == {
        "redis": "failed",
        "storage": "ok",
        "retention": "warning",
        "workers": "failed",
    }
