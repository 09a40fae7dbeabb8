"""Every way a generation ends badly on a real fleet: the library, the command line and the dead letter agree on why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests import musicgen_checkpoint
from tests.commandline import CommandLine
from tests.fleet import Fleet
from tests.waiting import wait_until

from soundfleet_producer import GenerationRequest, Producer
from soundfleet_schemas import (
    BackendStatus,
    DeadLetter,
    ErrorCode,
    ErrorInfo,
    EventType,
    Job,
    JobStatus,
    QueueError,
    SoundfleetError,
)

SERVICES = "generate.musicgen,generate.ace_step,generate.sketch"
QUEUE_OF_TWO = "SOUNDFLEET_LIMITS_MAX_PENDING"
NEXT_TRY = "attempt 1 failed, again in"


def request_of(backend: str = "musicgen", duration_sec: int = 10, **fields: Any) -> GenerationRequest:
    return GenerationRequest(
        prompt="warm lofi", duration_sec=duration_sec, backend=backend, seed=1, use_cache=False, **fields
    )


def worker(fleet: Fleet, models: Path, **env: str) -> Any:
    return fleet.start(SOUNDFLEET_ONLY=SERVICES, SOUNDFLEET_MODEL_DIR=str(models), **env)


def spoil(models: Path, folder: Path, parts: tuple[str, ...]) -> Path:
    """Copy the models, and let these parts of them hold what is no number."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(models, folder, dirs_exist_ok=True)
    for path in folder.rglob("*.safetensors"):
        tensors = load_file(path)
        spoilt = [name for name in tensors if any(part in f"{path.parent.name}/{name}" for part in parts)]
        for name in spoilt:
            tensors[name].fill_(float("nan"))
        if spoilt:
            save_file(tensors, path, metadata={"format": "pt"})
    return folder


def agreed(fleet: Fleet, soundfleet: CommandLine, job_id: str) -> tuple[Job, DeadLetter]:
    """See that everybody says the same of a failed job, in one line with what to do; return what they say it of."""
    job, letter = fleet.ended(job_id), fleet.producer.dead_letter(job_id)
    info = job.error
    assert info is not None
    assert (job.status, letter.error, fleet.events(job_id)[-1].error) == (JobStatus.failed, info, info)
    assert info.action
    with pytest.raises(SoundfleetError) as caught:
        fleet.producer.result(job_id)
    assert caught.value.info == info
    watched, documents = soundfleet("watch", job_id), soundfleet("watch", job_id, "--json")
    assert (watched.code, watched.out, watched.err.splitlines()[-1]) == (1, "", f"error {info}")
    assert msgspec.json.decode(documents.err, type=ErrorInfo) == info
    assert documents.documents[-1]["type"] == "failed"
    assert str(info) in soundfleet("status", job_id).out
    assert info.code in soundfleet("dead", "show", job_id).out
    return job, letter


def test_weights_that_give_no_numbers_fail_their_jobs_and_no_others(
    fleet: Fleet, soundfleet: CommandLine, music_models: Path, tmp_path: Path
) -> None:
    """MODEL_INFERENCE_FAILED: tried three times, as another device may do better; who watches sees why each time."""
    worker(fleet, spoil(music_models, tmp_path / "models", ("decoder.model.decoder.layers.0", "transformer/")))
    neighbour = fleet.submit(request_of("sketch"))
    for failed in [fleet.submit(request_of(backend)) for backend in ("musicgen", "ace_step")]:
        job, letter = agreed(fleet, soundfleet, failed)
        assert job.error is not None
        assert job.error.code is ErrorCode.MODEL_INFERENCE_FAILED
        assert "number" in job.error.message
        assert (letter.reason, letter.attempts) == ("attempts", 3)
        assert [event.error for event in fleet.events(job.id) if event.type is EventType.retry] == [job.error] * 2
        lines = soundfleet("watch", job.id).err.splitlines()
        assert any(NEXT_TRY in line and job.error.message in line for line in lines)
    assert fleet.completed(neighbour).attempt == 1


def test_another_checkpoint_under_a_name_is_refused_with_what_to_do(
    fleet: Fleet, soundfleet: CommandLine, tmp_path: Path
) -> None:
    """MODEL_LOAD_FAILED, once and for good: what the catalogue says of musicgen would not be true of its tracks."""
    musicgen_checkpoint.save_checkpoint(tmp_path / "musicgen-small", stereo=True, rate=32_000)
    worker(fleet, tmp_path)
    job, letter = agreed(fleet, soundfleet, fleet.submit(request_of()))
    assert job.error is not None
    assert job.error.code is ErrorCode.MODEL_LOAD_FAILED
    assert job.error.message.endswith(" cannot be used: it is stereo.")
    assert job.error.action == "Replace them by those of musicgen-small: soundfleet backends pull musicgen."
    assert (letter.reason, letter.attempts) == ("permanent", 1)
    told = soundfleet("backends").out
    assert "MODEL_LOAD_FAILED" in told
    assert "Replace them by those of musicgen-small" in told


def test_files_that_are_taken_away_are_another_workers_to_have(
    fleet: Fleet, soundfleet: CommandLine, music_models: Path, tmp_path: Path
) -> None:
    """BACKEND_NOT_READY: the attempt fails, the worker claims no more for the model, and another one does the job."""
    shutil.copytree(music_models, tmp_path / "models")
    robbed = worker(fleet, tmp_path / "models", HF_HUB_CACHE=str(tmp_path))
    shutil.rmtree(tmp_path / "models" / "musicgen-small")
    job_id = fleet.submit(request_of())
    wait_until(lambda: EventType.requeued in fleet.told(job_id), "the next attempt")
    job = fleet.producer.status(job_id)
    assert job.error is not None
    assert (job.status, job.error.code) == (JobStatus.processing, ErrorCode.BACKEND_NOT_READY)
    assert "soundfleet backends pull musicgen" in job.error.message
    assert str(job.error) in soundfleet("status", job_id).out
    (info,) = fleet.producer.workers()
    standing = {backend.backend: backend.status for backend in info.statuses}
    assert (standing["musicgen"], standing["ace_step"]) == (BackendStatus.NotInstalled, BackendStatus.Ready)
    other = worker(fleet, music_models)
    done = fleet.completed(job_id)
    assert (done.worker, done.attempt, robbed.id != other.id) == (other.id, 2, True)
    said = soundfleet("watch", job_id)
    assert said.code == 0
    assert any(NEXT_TRY in line and "BACKEND_NOT_READY" in line for line in said.err.splitlines())


def test_a_cancelled_generation_says_where_it_stopped(
    fleet: Fleet, soundfleet: CommandLine, music_models: Path
) -> None:
    """GENERATION_CANCELLED, with the step; exit code 6; no dead letter, as nothing went wrong."""
    worker(fleet, music_models)
    for job_id in [
        fleet.submit(request_of("musicgen", 120)),
        fleet.submit(request_of("ace_step", inference_steps=200)),
    ]:
        fleet.running(job_id)
        assert soundfleet("cancel", job_id).code == 0
        job = fleet.ended(job_id)
        assert job.error is not None
        assert (job.status, job.error.code) == (JobStatus.cancelled, ErrorCode.GENERATION_CANCELLED)
        assert "at step " in job.error.message
        said = soundfleet("watch", job_id)
        assert (said.code, said.err.splitlines()[-1]) == (6, f"error {job.error}")
        with pytest.raises(SoundfleetError, match="at step ") as caught:
            fleet.producer.result(job_id)
        assert caught.value.code is ErrorCode.GENERATION_CANCELLED
    assert fleet.producer.dead_letters() == []


def test_a_full_queue_says_the_place_and_the_wait(
    fleet: Fleet, soundfleet: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QUEUE_FULL, by the pace at which the fleet has worked; the library raises it, the command ends with 3."""
    monkeypatch.setenv(QUEUE_OF_TWO, "2")
    fleet.start(SOUNDFLEET_SLOTS="1")
    fleet.completed(fleet.slow("steps=1", use_cache=False))
    busy = fleet.slow("steps=10000 step_sec=0.05")
    fleet.running(busy)
    waiting = [fleet.slow(f"steps=1 number={n}") for n in range(2)]
    said = soundfleet("generate", "warm lofi", "--backend", "slow", "--duration", "5")
    assert (said.code, said.out) == (3, "")
    assert "QUEUE_FULL: 2 jobs wait, of 2; yours would be number 3; wait: about " in said.err
    assert said.err.endswith(" s. Try again later.\n")
    limits = msgspec.structs.replace(fleet.stack.settings.limits, max_pending=2)
    settings = msgspec.structs.replace(fleet.stack.settings, limits=limits)
    with Producer(settings, fleet.stack.storage) as producer, pytest.raises(QueueError) as caught:
        producer.submit(request_of("slow"))
    assert (caught.value.code, caught.value.info.retryable) == (ErrorCode.QUEUE_FULL, True)
    for job_id in (busy, *waiting):
        fleet.producer.cancel(job_id)
        fleet.ended(job_id)


def test_a_chain_that_does_not_fit_the_queue_leaves_nothing_in_it(
    producer: Producer, soundfleet: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first job fits and the second does not: nobody would know of the first."""
    monkeypatch.setenv(QUEUE_OF_TWO, "1")
    said = soundfleet("generate", "warm lofi", "-b", "sketch", "--then", "separate -m htdemucs_mini")
    assert (said.code, said.out) == (3, "")
    assert "QUEUE_FULL" in said.err
    assert [job.status for job in producer.jobs()] == [JobStatus.cancelled]
