"""ACE-Step on a real GPU: what diffusers' pipeline makes, in any company, within the memory that was predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

from diffusers import AceStepPipeline  # noqa: E402
from tests.ace_step_checkpoint import CHANNELS, build, job_of, play, recording, spec_of  # noqa: E402

from soundfleet_schemas import Precision, SchedulerType, Task  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepFactory, AceStepModel  # noqa: E402
from soundfleet_worker.backends.contract import EngineJob, ModelConfig  # noqa: E402
from soundfleet_worker.engine.faults import is_out_of_memory  # noqa: E402

TURBO, BASE = "acestep-v15-turbo", "acestep-v15-base"
DEVICE = "cuda:0"
CLOSE = 1e-3
"""What kernels of another shape round, in float32."""


@pytest.fixture(scope="module", autouse=True)
def whole_floats() -> Iterator[None]:
    """No TF32: it would round more than what is compared here."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models with a distilled checkpoint and one that is guided."""
    folder = tmp_path_factory.mktemp("models")
    build(folder / TURBO)
    build(folder / BASE, turbo=False)
    return folder


def load(checkpoints: Path, version: str, precision: Precision = Precision.Float32) -> AceStepModel:
    """Load as an engine does, with a GPU's launches."""
    source = ModelConfig(model_dir=checkpoints, precision=precision)
    model = AceStepFactory(spec_of(version), source).load(DEVICE, lambda _status, _percent: None)
    assert isinstance(model, AceStepModel)
    return model


@pytest.mark.parametrize("version", [TURBO, BASE])
@pytest.mark.parametrize("duration_sec", [10, 61])
def test_it_makes_what_the_pipeline_makes(checkpoints: Path, tmp_path: Path, version: str, duration_sec: int) -> None:
    """From the same noise, guided or not; the longer song has local attention in stretches and several tiles."""
    model = load(checkpoints, version)
    [ours] = play(model, job_of(model.spec, tmp_path, duration_sec=duration_sec, lyrics="soft rain"))
    pipeline = AceStepPipeline.from_pretrained(checkpoints / version).to(DEVICE)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 25 * duration_sec, CHANNELS), generator=torch.Generator().manual_seed(7))
    theirs = pipeline(
        "warm lofi piano",
        lyrics="soft rain",
        audio_duration=float(duration_sec),
        num_inference_steps=3,
        guidance_scale=1.0 if version == TURBO else 7.0,
        latents=noise.to(DEVICE),
        output_type="np",
    ).audios[0]
    np.testing.assert_allclose(ours.audio["track"], theirs, atol=CLOSE)


def jobs_of(model: AceStepModel, tmp_path: Path, count: int) -> Sequence[EngineJob]:
    asked: list[dict[str, Any]] = [
        {"seed": seed, "scheduler": list(SchedulerType)[seed % 3], "lyrics": "la " * (5 * seed)}
        for seed in range(1, count + 1)
    ]
    return [job_of(model.spec, tmp_path, **one) for one in asked]


@pytest.mark.parametrize("precision", [Precision.Auto, Precision.Float32])
def test_company_changes_nothing(checkpoints: Path, tmp_path: Path, precision: Precision) -> None:
    """Bit for bit, because a launch of a group always has the same shape."""
    model = load(checkpoints, BASE, precision)
    alone = [play(model, job)[0].audio["track"].copy() for job in jobs_of(model, tmp_path / "alone", 5)]
    together = play(model, *jobs_of(model, tmp_path / "together", 5))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other.audio["track"])


def test_a_source_is_worked_on(checkpoints: Path, tmp_path: Path) -> None:
    """Recordings go to the device and back; nothing is left on another one."""
    model = load(checkpoints, BASE)
    inputs = {name: recording(tmp_path / f"{name}.npy", 12.0) for name in ("source", "reference")}
    for task in (Task.cover, Task.repaint):
        [output] = play(model, job_of(model.spec, tmp_path, inputs=inputs, duration_sec=12, task=task))
        assert np.isfinite(output.audio["track"]).all()


def test_memory_is_as_predicted(checkpoints: Path, tmp_path: Path) -> None:
    """At no time more than the model and its runs say; nothing is left of runs that ended."""
    model = load(checkpoints, TURBO)
    jobs = [job_of(model.spec, tmp_path, seed=seed, duration_sec=120) for seed in range(4)]
    predicted = model.memory_bytes + sum(model.memory_of(job) for job in jobs)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    play(model, *jobs)
    grown = torch.cuda.max_memory_allocated() - before
    assert model._weight_bytes + grown <= predicted
    assert torch.cuda.memory_allocated() - before < model.memory_of(jobs[0])


def test_a_cancelled_song_frees_its_memory(checkpoints: Path, tmp_path: Path) -> None:
    """At any step: what it held is free as soon as it is discarded."""
    model = load(checkpoints, BASE)
    play(model, job_of(model.spec, tmp_path, duration_sec=60))  # what is kept for all songs of this length is made
    before = torch.cuda.memory_allocated()
    for steps in (0, 1, 3, 4):
        run = model.begin(job_of(model.spec, tmp_path, duration_sec=60))
        for _ in range(steps):
            model.step([run])
        model.discard(run)
        del run
        assert torch.cuda.memory_allocated() <= before


def test_out_of_memory_leaves_the_song_as_it_was(checkpoints: Path, tmp_path: Path) -> None:
    """The launch is repeated, and the song is the same."""
    model = load(checkpoints, TURBO)
    [plain] = play(model, job_of(model.spec, tmp_path, scheduler=SchedulerType.PingPong))
    run = model.begin(job_of(model.spec, tmp_path, scheduler=SchedulerType.PingPong))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(torch.OutOfMemoryError) as caught:
            model.step([run])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert is_out_of_memory(caught.value)
    assert run.current_step == 0
    while not run.done:
        model.step([run])
    assert np.array_equal(model.finish(run).audio["track"], plain.audio["track"])


def test_the_end_of_a_song_is_foretold(checkpoints: Path, tmp_path: Path) -> None:
    """By the device's own marks, from the first song on."""
    model = load(checkpoints, TURBO)
    torch.cuda.synchronize()
    run = model.begin(job_of(model.spec, tmp_path, duration_sec=60))
    assert run.left_sec is not None
    assert 0.0 < run.left_sec < 60.0
    model.discard(run)
