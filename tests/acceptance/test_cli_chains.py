"""Chains on the command line: a job and those that work on its output, submitted together."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.commandline import CommandLine, Said
from tests.fleet import Fleet
from tests.hands import Hands
from tests.stacks import Stack

from soundfleet_producer import Producer
from soundfleet_schemas import ErrorCode, JobSource, JobStatus, SeparationRequest, sources_of

GENERATE = ("generate", "warm lofi", "--backend", "sketch", "--duration", "5", "--seed", "1")


def ids(said: Said) -> list[str]:
    """The jobs that a command has submitted."""
    assert said.code == 0, said.err
    return said.out.split()


def test_a_track_is_generated_and_then_separated(soundfleet: CommandLine, producer: Producer) -> None:
    """The second job waits for the first; both are queued at once."""
    parent, child = ids(soundfleet(*GENERATE, "--then", "separate --model htdemucs_mini --format flac"))
    request = producer.status(child).request
    assert isinstance(request, SeparationRequest)
    assert request.source == JobSource(job_id=parent)
    assert (request.options.model, request.options.output_format) == ("htdemucs_mini", "flac")


def test_an_output_fans_out_to_several_jobs(soundfleet: CommandLine, producer: Producer) -> None:
    """Each --then is one more child; a stem is named behind job:."""
    parent, stems, again, karaoke = ids(
        soundfleet(
            *("separate", "s3://songs/one.wav", "--model", "htdemucs"),
            *("--then", "separate job:#vocals --model htdemucs_mini"),
            *("--then", "separate 'job:#drums' -m htdemucs_mini"),
            *("--then", "separate job:#other --remove-vocals"),
        )
    )
    sources = [sources_of(producer.status(job).request)["source"] for job in (stems, again, karaoke)]
    assert sources == [JobSource(job_id=parent, stem=stem) for stem in ("vocals", "drums", "other")]


@pytest.mark.parametrize(
    ("then", "name", "stem"),
    [
        ("generate 'more of it' -b musicgen --source=job:", "source", None),
        ("generate 'more of it' -b musicgen_melody --reference=job:#bass", "reference", "bass"),
        ("separate -m htdemucs_mini --reference bass=job:#bass", "reference.bass", "bass"),
    ],
)
def test_the_job_before_may_be_named_behind_an_equals_sign(
    soundfleet: CommandLine, producer: Producer, then: str, name: str, stem: str | None
) -> None:
    """As any other value of an option, and of one that holds a name itself."""
    parent, child = ids(soundfleet("separate", "s3://songs/one.wav", "--model", "htdemucs_mini", "--then", then))
    assert sources_of(producer.status(child).request)[name] == JobSource(job_id=parent, stem=stem)


def test_a_chain_is_one_clients_and_of_one_priority(soundfleet: CommandLine, producer: Producer) -> None:
    """Else its later jobs would pass by their client's limits, and wait behind those of everybody."""
    _, same, own = ids(
        soundfleet(
            *(*GENERATE, "--priority", "high", "--client", "ann"),
            *("--then", "separate --model htdemucs_mini"),
            *("--then", "separate --model htdemucs_mini --priority normal --client bob"),
        )
    )
    requests = [producer.status(job).request for job in (same, own)]
    assert [(request.priority, request.client) for request in requests] == [("high", "ann"), ("normal", "bob")]


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("", "begins with separate or generate"),
        ("transcribe", "begins with separate or generate"),
        ("separate 'job:", "cannot be read"),
        ("separate --model nobody", "nobody"),
        ("separate --shifts 11", "shifts is 11"),
        ("separate --tempo 3", "--tempo"),
        ("separate --watch", "belong to the first command"),
        ("separate --then separate", "belong to the first command"),
        ("generate 'something else' --backend sketch", "does not use the job before"),
        ("generate 'more of it' --backend sketch --source job:", "source does not act"),
    ],
)
def test_a_chain_with_a_mistake_queues_nothing(
    soundfleet: CommandLine, producer: Producer, then: str, why: str
) -> None:
    """Every part is read and checked before the first is submitted."""
    said = soundfleet(*GENERATE, "--then", then)
    assert said.code == 2
    assert why in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert producer.jobs() == []


def test_a_failure_is_carried_down_with_its_reason(soundfleet: CommandLine, fleet: Fleet, stack: Stack) -> None:
    """What cannot be had any more is not waited for."""
    parent, child = ids(soundfleet(*GENERATE, "--then", "separate --model htdemucs_mini"))
    hands = Hands(stack)
    claim = hands.claim()
    assert claim.token.job_id == parent
    hands.fail(claim.token, ErrorCode.MODEL_INFERENCE_FAILED)
    fleet.start(SOUNDFLEET_ONLY="separate.htdemucs_mini")
    job = fleet.ended(child)
    assert job.status is JobStatus.failed
    assert job.error is not None
    assert job.error.code is ErrorCode.SOURCE_JOB_FAILED
    assert "the test failed it" in job.error.message


def test_a_chained_job_that_names_no_backend_is_followed_by_the_name_of_its_model(
    soundfleet: CommandLine, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fleet's default serves it, and names the folder of its files."""
    monkeypatch.setenv("SOUNDFLEET_DEFAULT_BACKEND", "musicgen")
    hands = Hands(fleet.stack)
    first = (*GENERATE, "--id", "0b7c1b1e-8f2b-4c6d-9a53-0e6f1d2c3b4a")
    assert soundfleet(*first).code == 0
    hands.fail(hands.claim().token, ErrorCode.MODEL_INFERENCE_FAILED)
    then = "generate 'more of it' --duration 10 --source job:"
    said = soundfleet(*first, "--then", then, "--out", str(tmp_path), "--timeout", "0.5")
    assert said.code == 5, "the chained job waits for a worker until the time is over"
    assert (tmp_path / "musicgen").is_dir()


def test_a_chain_is_followed_to_its_last_job(soundfleet: CommandLine, fleet: Fleet, tmp_path: Path) -> None:
    """Files of chained jobs lie in folders named after their models."""
    fleet.start(SOUNDFLEET_ONLY="generate.sketch,separate.htdemucs_mini")
    said = soundfleet(*GENERATE, "--out", str(tmp_path), "--then", "separate --model htdemucs_mini --stems bass")
    assert said.code == 0, said.err
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.wav")) == [
        "htdemucs_mini/bass.wav",
        "track.wav",
    ]
