"""ACE-Step's own directory of checkpoints, through a whole fleet."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fleet import Fleet

from soundfleet_schemas import ErrorCode, GenerationRequest, JobStatus, SongOptions

SERVICE = "generate.ace_step"


def song(**fields: object) -> GenerationRequest:
    """Ten seconds."""
    asked = {"prompt": "warm lofi", "duration_sec": 10, "seed": 1, "backend": "ace_step", "use_cache": False, **fields}
    return GenerationRequest(**asked)  # type: ignore[arg-type]


@pytest.fixture
def directory(music_models: Path, tmp_path: Path) -> Path:
    """The directory that ``ace_step_model_dir`` names: a checkpoint in it, and one LoRA beside it."""
    from tests.ace_step_checkpoint import build_lora

    folder = tmp_path / "ace-step"
    folder.mkdir()
    (folder / "acestep-v15-turbo").symlink_to(music_models / "acestep-v15-turbo")
    build_lora(folder / "loras", "night")
    return folder


def test_a_checkpoint_is_found_in_ace_steps_own_directory(fleet: Fleet, directory: Path, tmp_path: Path) -> None:
    """Though there is a ``model_dir``, which holds other models; LoRAs are those of the first of the two."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "loras").symlink_to(directory / "loras")
    fleet.start(
        SOUNDFLEET_ONLY=SERVICE,
        SOUNDFLEET_MODEL_DIR=str(tmp_path / "models"),
        SOUNDFLEET_ACE_STEP_MODEL_DIR=str(directory),
    )
    plain, lora = fleet.submit(song()), fleet.submit(song(song=SongOptions(lora="night")))
    results = [fleet.completed(job).result for job in (plain, lora)]
    tracks = [result.track for result in results if result is not None and result.track is not None]
    assert [round(track.duration_sec) for track in tracks] == [10, 10]
    assert tracks[0].file.sha256 != tracks[1].file.sha256
    assert results[0] is not None
    assert results[0].parameters["checkpoint"] == "acestep-v15-turbo"
    assert any(name.startswith("transformer-") for name in results[0].parameters["weights"])


def test_a_directory_alone_is_enough(fleet: Fleet, directory: Path) -> None:
    """``model_dir`` need not be set; what is broken in it is told once, with its place and what to do."""
    broken = directory / "acestep-v15-turbo"
    target = broken.resolve()
    broken.unlink()
    broken.mkdir()
    for part in target.iterdir():
        if part.name != "vae":
            (broken / part.name).symlink_to(part)
    fleet.start(SOUNDFLEET_ONLY=SERVICE, SOUNDFLEET_ACE_STEP_MODEL_DIR=str(directory))
    failed = fleet.ended(fleet.submit(song()))
    assert failed.status is JobStatus.failed
    assert failed.error is not None
    assert failed.error.code is ErrorCode.MODEL_LOAD_FAILED
    assert str(directory) in failed.error.message
    assert failed.error.action
