"""MusicGen and ACE-Step through a whole fleet, on tiny checkpoints in the published layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests import ace_step_checkpoint, musicgen_checkpoint
from tests.fleet import Fleet

from soundfleet_schemas import (
    ErrorCode,
    EventType,
    GenerationRequest,
    JobStatus,
    SchedulerType,
    SeparationRequest,
    SongOptions,
    Stage,
    StemSeparationOptions,
    Task,
)

SERVICES = "generate.musicgen,generate.ace_step,separate.htdemucs_mini"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models as an operator has it."""
    folder = tmp_path_factory.mktemp("models")
    musicgen_checkpoint.save_checkpoint(folder / "musicgen-small", rate=32_000)
    ace_step_checkpoint.build(folder / "acestep-v15-turbo")
    return folder


def worker(fleet: Fleet, models: Path, **env: str) -> Any:
    """A worker that serves both, and the smallest separation."""
    return fleet.start(SOUNDFLEET_ONLY=SERVICES, SOUNDFLEET_MODEL_DIR=str(models), SOUNDFLEET_SLOTS="8", **env)


def piece(seed: int = 1, duration_sec: int = 5, **fields: Any) -> GenerationRequest:
    """A piece by MusicGen."""
    return GenerationRequest(
        prompt="warm lofi", duration_sec=duration_sec, seed=seed, backend="musicgen", use_cache=False, **fields
    )


def song(seed: int = 1, duration_sec: int = 10, **fields: Any) -> GenerationRequest:
    """A song by ACE-Step."""
    return GenerationRequest(
        prompt="warm lofi", duration_sec=duration_sec, seed=seed, backend="ace_step", use_cache=False, **fields
    )


def test_jobs_of_both_models_share_a_worker(fleet: Fleet, models: Path) -> None:
    """Each comes out with its own length, rate and parameters; the same seed gives the same bytes in any company."""
    worker(fleet, models)
    (alone,) = (fleet.completed(fleet.submit(request)) for request in (piece(),))
    requests = [piece(2), song(1), piece(1), song(2, scheduler=SchedulerType.PingPong), piece(3, 7), song(1)]
    together = [fleet.completed(job) for job in [fleet.submit(request) for request in requests]]
    tracks = [job.result.track for job in together if job.result is not None and job.result.track is not None]
    assert [round(track.duration_sec, 2) for track in tracks] == [5, 10, 5, 10, 7, 10]
    assert [track.sample_rate for track in tracks] == [32_000, 48_000, 32_000, 48_000, 32_000, 48_000]
    assert alone.result is not None
    assert alone.result.track is not None
    assert tracks[2].file.sha256 == alone.result.track.file.sha256 != tracks[0].file.sha256
    assert tracks[1].file.sha256 == tracks[5].file.sha256 != tracks[3].file.sha256
    made = together[3].result.parameters if together[3].result is not None else {}
    assert (made["scheduler"], made["inference_steps"], made["guidance_scale"]) == ("pingpong", 8, 1.0)


def test_progress_goes_on_to_the_last_sample(fleet: Fleet, models: Path) -> None:
    """Tokens first, then the way to audio, in percent that never falls; the channel names the track."""
    worker(fleet, models)
    job = fleet.completed(fleet.submit(piece(duration_sec=40)))
    updates = [event.progress for event in fleet.events(job.id) if event.progress is not None]
    percents = [update.percent for update in updates]
    assert percents == sorted(percents)
    assert {update.stage for update in updates} >= {Stage.infer, Stage.deliver}
    assert max(b - a for a, b in zip([0, *percents], percents, strict=False)) <= 60
    assert job.result is not None
    assert {update.track_id for update in updates if update.stage is Stage.infer} == {job.result.fingerprint}


def test_a_cancelled_piece_says_at_which_step_and_its_neighbour_goes_on(fleet: Fleet, models: Path) -> None:
    """Within one step."""
    worker(fleet, models)
    neighbour = fleet.submit(piece(2, duration_sec=20))
    doomed = fleet.submit(piece(1, duration_sec=120))
    fleet.running(doomed)
    fleet.producer.cancel(doomed)
    ended = fleet.ended(doomed)
    assert ended.status is JobStatus.cancelled
    assert ended.error is not None
    assert ended.error.code is ErrorCode.GENERATION_CANCELLED
    assert " step " in ended.error.message
    assert fleet.completed(neighbour).result is not None


def test_a_track_is_gone_on_from_covered_and_split(fleet: Fleet, models: Path) -> None:
    """Three children of one job, which wait for it together."""
    parent = piece(duration_sec=5)
    source = f"job:{parent.id}"
    children = [
        fleet.submit(piece(source=source, duration_sec=8)),
        fleet.submit(song(source=source, duration_sec=5, song=SongOptions(task=Task.cover))),
        fleet.submit(SeparationRequest(source=source, options=StemSeparationOptions(model="htdemucs_mini"))),
    ]
    fleet.submit(parent)
    worker(fleet, models)
    longer, cover, stems = (fleet.completed(child).result for child in children)
    assert longer is not None
    assert cover is not None
    assert stems is not None
    assert longer.track is not None
    assert longer.track.duration_sec == pytest.approx(8.0, abs=0.05)
    assert cover.parameters["task"] == "cover"
    assert set(stems.stems) == {"drums", "bass", "other", "vocals"}


def test_a_broken_checkpoint_fails_its_jobs_once_and_no_others(fleet: Fleet, models: Path, tmp_path: Path) -> None:
    """With what to do."""
    (tmp_path / "musicgen-small").symlink_to(models / "musicgen-small")
    broken = ace_step_checkpoint.build(tmp_path / "acestep-v15-turbo")
    weights = next((broken / "vae").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    worker(fleet, tmp_path)
    bad, good = fleet.submit(song()), fleet.submit(piece())
    failed = fleet.ended(bad)
    assert failed.error is not None
    assert failed.error.code is ErrorCode.MODEL_LOAD_FAILED
    assert failed.error.action
    assert fleet.told(bad).count(EventType.claimed) == 1
    assert fleet.completed(good).result is not None
