"""With Euler, from the same noise, ACE-Step makes what diffusers' pipeline makes: every task, guided or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
from diffusers import AceStepPipeline  # noqa: E402
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution  # noqa: E402
from tests.ace_step_checkpoint import CHANNELS, build, job_of, load, play, recording  # noqa: E402

from soundfleet_schemas import Task  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepModel  # noqa: E402

TURBO, BASE = "acestep-v15-turbo", "acestep-v15-base"
PROMPT = "warm lofi piano"
CLOSE = 1e-4


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a distilled checkpoint and one that is guided."""
    folder = tmp_path_factory.mktemp("models")
    build(folder / TURBO)
    build(folder / BASE, turbo=False)
    return folder


@pytest.fixture(scope="module")
def models(checkpoints: Path) -> dict[str, AceStepModel]:
    """Both, with launches of three runs and tiles of 2.6 s."""
    return {version: load(checkpoints / version) for version in (TURBO, BASE)}


@pytest.fixture(scope="module")
def pipelines(checkpoints: Path) -> dict[str, AceStepPipeline]:
    """What diffusers makes of the same files."""
    loaded = {version: AceStepPipeline.from_pretrained(checkpoints / version) for version in (TURBO, BASE)}
    for pipeline in loaded.values():
        pipeline.set_progress_bar_config(disable=True)
    return loaded


def say(
    pipeline: AceStepPipeline, monkeypatch: pytest.MonkeyPatch, *, seed: int = 7, frames: int = 250, **asked: Any
) -> np.ndarray:
    """Return the pipeline's audio, with every draw from one generator of the seed: the first noise, then recordings."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((1, frames, CHANNELS), generator=generator)
    original = OobleckDiagonalGaussianDistribution.sample
    monkeypatch.setattr(OobleckDiagonalGaussianDistribution, "sample", lambda own: original(own, generator))
    said = pipeline(latents=noise, output_type="np", **{"prompt": PROMPT, "num_inference_steps": 3, **asked})
    audio: np.ndarray = said.audios[0]
    return audio


def heard(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(path))


@pytest.mark.parametrize("duration_sec", [10, 13])
@pytest.mark.parametrize("version", [TURBO, BASE])
def test_text_becomes_the_same_music(
    models: dict[str, AceStepModel],
    pipelines: dict[str, AceStepPipeline],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    version: str,
    duration_sec: int,
) -> None:
    """Of one tile and of several, of an odd number of frames too."""
    model = models[version]
    song = {"lyrics": "[verse]\nsoft rain", "language": "de", "bpm": 80, "key": "C major", "time_signature": "3"}
    [ours] = play(model, job_of(model.spec, tmp_path, duration_sec=duration_sec, shift=2.0, **song))
    theirs = say(
        pipelines[version],
        monkeypatch,
        frames=25 * duration_sec,
        audio_duration=float(duration_sec),
        lyrics=song["lyrics"],
        vocal_language="de",
        bpm=80,
        keyscale="C major",
        timesignature="3",
        shift=2.0,
        guidance_scale=1.0 if version == TURBO else 7.0,
    )
    assert ours.audio["track"].shape == (2, duration_sec * 48_000)
    np.testing.assert_allclose(ours.audio["track"], theirs, atol=CLOSE)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.5, 30.0])
def test_guidance_is_the_same(
    models: dict[str, AceStepModel],
    pipelines: dict[str, AceStepPipeline],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    guidance_scale: float,
) -> None:
    """At any strength, off too; its momentum goes from step to step."""
    model = models[BASE]
    [ours] = play(model, job_of(model.spec, tmp_path, guidance_scale=guidance_scale, inference_steps=6))
    theirs = say(
        pipelines[BASE], monkeypatch, audio_duration=10.0, guidance_scale=guidance_scale, num_inference_steps=6
    )
    np.testing.assert_allclose(ours.audio["track"], theirs, atol=CLOSE)


WORK: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a cover": ({"task": Task.cover}, {}),
    "a free cover": ({"task": Task.cover, "cover_strength": 0.4}, {"audio_cover_strength": 0.4}),
    "a repaint": (
        {"task": Task.repaint, "repaint_start_sec": 2.5, "repaint_end_sec": 6.0},
        {"repainting_start": 2.5, "repainting_end": 6.0},
    ),
    "a repaint to the end": ({"task": Task.repaint, "repaint_start_sec": 8.0}, {"repainting_start": 8.0}),
    "an extract": ({"task": Task.extract, "tracks": ("vocals",)}, {"track_name": "vocals"}),
    "an added track": ({"task": Task.lego, "tracks": ("drums",)}, {"track_name": "drums"}),
    "a completion": (
        {"task": Task.complete, "tracks": ("bass", "drums")},
        {"complete_track_classes": ["bass", "drums"]},
    ),
}


@pytest.mark.parametrize("what", WORK)
def test_work_on_a_source_is_the_same(
    models: dict[str, AceStepModel],
    pipelines: dict[str, AceStepPipeline],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    what: str,
) -> None:
    """On a source of 10.4 s, encoded in tiles here and whole there."""
    song, theirs_asked = WORK[what]
    model, source = models[BASE], recording(tmp_path / "source.npy", 10.4)
    [ours] = play(model, job_of(model.spec, tmp_path, inputs={"source": source}, duration_sec=60, **song))
    theirs = say(
        pipelines[BASE],
        monkeypatch,
        frames=260,
        audio_duration=10.4,
        src_audio=heard(source),
        task_type=song["task"].value,
        **theirs_asked,
    )
    assert ours.audio["track"].shape == (2, 260 * 1920)
    np.testing.assert_allclose(ours.audio["track"], theirs, atol=CLOSE)


@pytest.mark.parametrize("seconds", [7.0, 31.0])
def test_a_reference_acts_the_same(
    models: dict[str, AceStepModel],
    pipelines: dict[str, AceStepPipeline],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    seconds: float,
) -> None:
    """Shorter than what is heard of it, and longer."""
    model, reference = models[TURBO], recording(tmp_path / "reference.npy", seconds)
    [plain] = play(model, job_of(model.spec, tmp_path))
    [ours] = play(model, job_of(model.spec, tmp_path, inputs={"reference": reference}))
    theirs = say(
        pipelines[TURBO], monkeypatch, audio_duration=10.0, reference_audio=heard(reference), guidance_scale=1.0
    )
    np.testing.assert_allclose(ours.audio["track"], theirs, atol=CLOSE)
    assert np.abs(ours.audio["track"] - plain.audio["track"]).max() > 100 * CLOSE


def test_short_music_is_cut_out_of_ten_seconds(
    models: dict[str, AceStepModel],
    pipelines: dict[str, AceStepPipeline],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """And brought to its level afterwards."""
    model = models[TURBO]
    [ours] = play(model, job_of(model.spec, tmp_path, duration_sec=5))
    theirs = say(pipelines[TURBO], monkeypatch, audio_duration=10.0, guidance_scale=1.0)[:, : 5 * 48_000]
    np.testing.assert_allclose(ours.audio["track"], theirs * (10 ** (-1 / 20) / np.abs(theirs).max()), atol=CLOSE)
    assert ours.parameters["duration_sec"] == 5
    assert ours.parameters["generated_sec"] == 10


@pytest.mark.parametrize("task", [Task.text2music, Task.cover])
def test_launches_of_one_run_make_the_same_music(
    checkpoints: Path,
    pipelines: dict[str, AceStepPipeline],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    task: Task,
) -> None:
    """Their words are not padded, unless there are two opinions of them."""
    model = load(checkpoints / BASE, slots=1)
    inputs, song, theirs_asked = {}, {}, {"audio_duration": 10.0}
    if task is Task.cover:
        inputs["source"] = recording(tmp_path / "source.npy", 10.0)
        song = {"task": task, "cover_strength": 0.4}
        theirs_asked |= {"src_audio": heard(inputs["source"]), "task_type": "cover", "audio_cover_strength": 0.4}
    [ours] = play(model, job_of(model.spec, tmp_path, inputs=inputs, lyrics="soft rain", **song))
    theirs = say(pipelines[BASE], monkeypatch, lyrics="soft rain", **theirs_asked)
    np.testing.assert_allclose(ours.audio["track"], theirs, atol=CLOSE)


def test_words_change_the_music(models: dict[str, AceStepModel], tmp_path: Path) -> None:
    """Prompt, lyrics and tempo each do: what is equal above is not equal for want of any effect."""
    model = models[BASE]
    asked: list[dict[str, Any]] = [{}, {"prompt": "rain"}, {"lyrics": "la"}, {"bpm": 90}, {"seed": 8}]
    tracks = [output.audio["track"] for output in play(model, *(job_of(model.spec, tmp_path, **a) for a in asked))]
    assert all(np.abs(track - tracks[0]).max() > 100 * CLOSE for track in tracks[1:])
