"""Every checkpoint of the catalogue is what its entry says: its defaults, its durations, its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
from tests.ace_step_checkpoint import build, job_of, load, play, recording  # noqa: E402

from soundfleet_schemas import CATALOG, BackendSpec, BackendType, ErrorCode, SoundfleetError, Task  # noqa: E402
from soundfleet_schemas.catalog_generation import LONGEST_SEC  # noqa: E402
from soundfleet_worker.ace_step.memory import launch_bytes  # noqa: E402
from soundfleet_worker.ace_step.song import Song  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepFactory, AceStepModel  # noqa: E402
from soundfleet_worker.backends.contract import ModelConfig  # noqa: E402

SPECS = [spec for spec in CATALOG.values() if spec.type is BackendType.AceStep]
ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models in which every entry of the catalogue has its folder: tiny ones, of three kinds."""
    folder = tmp_path_factory.mktemp("models")
    kinds = {kind: build(folder / f"any-{kind}", turbo=kind == "turbo") for kind in ("turbo", "base", "sft")}
    for spec in SPECS:
        (folder / spec.model_version).symlink_to(kinds[spec.model_version.rpartition("-")[2]])
    return folder


def loaded(checkpoints: Path, spec: BackendSpec) -> AceStepModel:
    """Load as an engine does."""
    model = AceStepFactory(spec, ModelConfig(model_dir=checkpoints)).load("cpu", lambda _status, _percent: None)
    assert isinstance(model, AceStepModel)
    return model


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.backend)
def test_a_checkpoint_has_its_own_defaults(checkpoints: Path, tmp_path: Path, spec: BackendSpec) -> None:
    """Eight steps without guidance where it is distilled into the weights, fifty with it elsewhere."""
    model = loaded(checkpoints, spec)
    run = model.begin(job_of(spec, tmp_path, inference_steps=None))
    assert isinstance(run, Song)
    turbo = "turbo" in spec.model_version
    assert (run.plan.steps, run.plan.guidance_scale, run.plan.guided) == ((8, 1.0, False) if turbo else (50, 7.0, True))
    assert run.left_sec is not None
    model.discard(run)
    [output] = play(model, job_of(spec, tmp_path, inference_steps=1))
    assert output.parameters["checkpoint"] == spec.model_version
    assert output.parameters["guidance_scale"] == (1.0 if turbo else 7.0)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.backend)
def test_a_checkpoint_has_its_own_tasks(checkpoints: Path, tmp_path: Path, spec: BackendSpec) -> None:
    """Only the base ones take songs apart."""
    model = loaded(checkpoints, spec)
    inputs = {"source": recording(tmp_path / "source.npy", 10.0)}
    job = job_of(spec, tmp_path, inputs=inputs, task=Task.extract, tracks=("vocals",))
    if "base" in spec.model_version:
        model.discard(model.begin(job))
        return
    with pytest.raises(SoundfleetError) as caught:
        model.begin(job)
    assert caught.value.code is ErrorCode.INVALID_OPTION
    assert "cannot extract" in caught.value.info.message


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.backend)
def test_the_longest_song_is_laid_out(checkpoints: Path, tmp_path: Path, spec: BackendSpec) -> None:
    """240 s or 600: every frame of it in one tile, and in the memory that is predicted."""
    model = loaded(checkpoints, spec)
    seconds = int(spec.max_duration_sec)
    assert seconds == (240 if spec.backend == "ace_step" else LONGEST_SEC)
    job = job_of(spec, tmp_path, duration_sec=seconds)
    run = model.begin(job)
    assert isinstance(run, Song)
    assert run.plan.frames == 25 * seconds
    assert sum(tile.keep_to - tile.keep_from for tile in run.tiles) == 25 * seconds
    assert model.memory_of(job) > seconds * 48_000 * 2 * 4
    model.discard(run)
    parts, launcher = model._parts, model._launcher
    of_ten_sec = launch_bytes(parts, launcher.sizes, 250, launcher.reach)
    assert launch_bytes(parts, launcher.sizes, 25 * seconds, launcher.reach) >= of_ten_sec


def test_ten_minutes_are_made_to_the_end(checkpoints: Path, tmp_path: Path) -> None:
    """In tiles, each of them music."""
    model = load(checkpoints / "acestep-v15-sft", slots=1, tile_frames=512)
    [output] = play(model, job_of(model.spec, tmp_path, duration_sec=600, inference_steps=1))
    track = torch.from_numpy(output.audio["track"])
    assert track.shape == (2, 600 * 48_000)
    seconds = track.unflatten(1, (600, 48_000)).abs().amax(dim=(0, 2))
    assert torch.isfinite(seconds).all()
    assert float(seconds.min()) > 0.0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to tell the peak")
@pytest.mark.parametrize(("seconds", "tile"), [(240, 16), (10, 64)], ids=["calls", "tiles"])
def test_what_is_predicted_is_what_it_takes(seconds: int, tile: int) -> None:
    """Never less, nor four times as much, where calls of the transformer are the most and where tiles are."""
    command = [sys.executable, "-m", "tests.ace_step_appetite", str(seconds), str(tile)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    seen = json.loads(made.stdout.splitlines()[-1])
    grown, predicted = seen["decoded"], seen["launch"] + seen["run"]
    assert grown <= predicted <= 4 * grown, seen
