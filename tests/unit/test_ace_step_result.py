"""What the caller is told: words that were cut, options that could not act, music that is none."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
from safetensors.torch import save_file  # noqa: E402
from tests.ace_step_checkpoint import WIDTH, build, build_lora, job_of, load, play, recording  # noqa: E402

from soundfleet_schemas import ErrorCode, SoundfleetError, Task  # noqa: E402
from soundfleet_worker.ace_step.track import Track  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepModel  # noqa: E402
from soundfleet_worker.backends.contract import Output  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a turbo checkpoint lies that has no audio tokenizer."""
    return build(tmp_path_factory.mktemp("models") / "acestep-v15-turbo", cover=False)


@pytest.fixture(scope="module")
def model(folder: Path) -> AceStepModel:
    """That checkpoint."""
    return load(folder, slots=1)


def played(model: AceStepModel, tmp_path: Path, **asked: Any) -> Output:
    [output] = play(model, job_of(model.spec, tmp_path, **{"inference_steps": 1, **asked}))
    return output


def refused(model: AceStepModel, tmp_path: Path, **asked: Any) -> SoundfleetError:
    with pytest.raises(SoundfleetError) as caught:
        model.begin(job_of(model.spec, tmp_path, **asked))
    assert caught.value.code is ErrorCode.INVALID_OPTION
    return caught.value


def test_music_that_is_as_asked_has_no_warnings(model: AceStepModel, tmp_path: Path) -> None:
    """And is at -1 dBFS."""
    output = played(model, tmp_path, lyrics="la la")
    assert output.warnings == ()
    assert np.abs(output.audio["track"]).max() == pytest.approx(10 ** (-1 / 20), abs=1e-6)
    assert output.sample_rate == 48_000


@pytest.mark.parametrize("text", ["xq7 " * 128, "雨" * 512, "🎹" * 400])
def test_a_prompt_that_is_cut_is_told_of(model: AceStepModel, tmp_path: Path, text: str) -> None:
    """In any script: how long it was and what the model reads."""
    [warning] = played(model, tmp_path, prompt=text).warnings
    assert "the prompt was cut" in warning
    assert "reads 256" in warning


def test_lyrics_that_are_cut_are_told_of(model: AceStepModel, tmp_path: Path) -> None:
    """How long they were."""
    [warning] = played(model, tmp_path, lyrics="song " * 2000).warnings
    assert "the lyrics were cut" in warning
    assert "reads 2048" in warning


def test_guidance_that_cannot_act_is_told_of(model: AceStepModel, tmp_path: Path) -> None:
    """It is distilled into the weights: the result says 1.0."""
    output = played(model, tmp_path, guidance_scale=7.0)
    assert "guidance_scale 7 did not act" in output.warnings[0]
    assert output.parameters["guidance_scale"] == 1.0


def test_a_source_that_is_longer_than_asked_is_cut(model: AceStepModel, tmp_path: Path) -> None:
    """And the result says so; a shorter one makes a shorter track, though the model hears ten seconds."""
    source = recording(tmp_path / "source.npy", 11.5)
    output = played(model, tmp_path, inputs={"source": source}, duration_sec=10, task=Task.repaint)
    assert "only the first 10 s of the source" in output.warnings[0]
    assert output.audio["track"].shape == (2, 10 * 48_000)
    short = played(model, tmp_path, inputs={"source": recording(tmp_path / "s.npy", 6.5)}, task=Task.repaint)
    assert short.audio["track"].shape == (2, round(6.5 * 48_000))
    assert short.parameters["generated_sec"] == 10
    assert "the track is 6.5 s, not 10 s" in short.warnings[0]


def test_what_the_checkpoint_cannot_do_is_refused(model: AceStepModel, tmp_path: Path) -> None:
    """At the beginning, not after minutes."""
    source = {"source": recording(tmp_path / "source.npy", 10.0)}
    assert "no audio tokenizer" in refused(model, tmp_path, inputs=source, task=Task.cover).info.message
    assert "there is none" in refused(model, tmp_path, task=Task.repaint).info.message
    assert "takes no source" in refused(model, tmp_path, inputs=source).info.message
    late = refused(model, tmp_path, inputs=source, task=Task.repaint, repaint_start_sec=10.0)
    assert "not within the source" in late.info.message


def test_nan_is_no_music(tmp_path: Path) -> None:
    """One broken weight is enough; the job must not count as completed."""
    model = load(build(tmp_path / "acestep-v15-turbo"), slots=1)
    model._parts.vae.decoder.conv2.weight.data[0, 0, 0] = float("nan")
    with pytest.raises(SoundfleetError) as caught:
        played(model, tmp_path)
    assert caught.value.code is ErrorCode.MODEL_INFERENCE_FAILED
    assert "not numbers" in caught.value.info.message


def test_silence_is_no_music(tmp_path: Path) -> None:
    """But a source without drums has no drums to extract."""
    model = load(build(tmp_path / "acestep-v15-base", turbo=False), slots=1)
    model._parts.vae.decoder.conv2.weight.data *= 1e-6
    with pytest.raises(SoundfleetError) as caught:
        played(model, tmp_path)
    assert caught.value.code is ErrorCode.OUTPUT_SILENT
    assert "silent" in caught.value.info.message
    source = {"source": recording(tmp_path / "source.npy", 10.0)}
    output = played(model, tmp_path, inputs=source, task=Task.extract, tracks=("drums",))
    assert "silent" in output.warnings[0]
    assert output.parameters["gain"] == 1.0


def test_music_far_beyond_full_scale_is_turned_down(tmp_path: Path) -> None:
    """It never clips, and the caller hears of it; a little too loud is usual."""
    for peak, warned in ((0.01, 0), (1.4, 0), (30.0, 1)):
        track = Track(tmp_path / str(peak), 1000)
        for start in (0, 600):
            track.write(start, np.full((2, 600), peak, dtype=np.float32))
        audio, level, warnings = track.finish(may_be_silent=False)
        assert np.abs(audio).max() == pytest.approx(10 ** (-1 / 20), abs=1e-6)
        assert level["gain"] == pytest.approx(10 ** (-1 / 20) / peak)
        assert len(warnings) == warned


def test_a_lora_acts_as_if_it_were_in_the_weights(model: AceStepModel, folder: Path, tmp_path: Path) -> None:
    """At the strength that its own settings and the request say; without it the weights are as before."""
    [plain] = play(model, job_of(model.spec, tmp_path))
    added = build_lora(folder.parent / "loras", "dusk", alpha=2.0)
    [ours] = play(model, job_of(model.spec, tmp_path, lora="dusk", lora_scale=0.5))
    [after] = play(model, job_of(model.spec, tmp_path))
    merged = load(folder, slots=1)
    weights = merged._parts.transformer.state_dict()
    for name, addition in added.items():
        weights[name] += 0.5 * addition
    [theirs] = play(merged, job_of(merged.spec, tmp_path))
    np.testing.assert_allclose(ours.audio["track"], theirs.audio["track"], atol=1e-4)
    assert np.abs(ours.audio["track"] - plain.audio["track"]).max() > 0.01
    assert np.array_equal(after.audio["track"], plain.audio["track"])
    assert (ours.parameters["lora"], ours.parameters["lora_scale"]) == ("dusk", 0.5)


def test_a_lora_that_does_not_fit_is_refused(model: AceStepModel, folder: Path, tmp_path: Path) -> None:
    """Missing, of another checkpoint, of another kind, or no name at all."""
    loras = folder.parent / "loras"
    assert "not on this worker" in refused(model, tmp_path, lora="absent").info.message
    assert "no LoRA's name" in refused(model, tmp_path, lora="../loras").info.message
    first, last = "layers.0.self_attn.q_proj", "layers.9.self_attn.q_proj"
    contents = {
        "wide": {f"{first}.lora_A.weight": (4, 64), f"{first}.lora_B.weight": (64, 4)},
        "deep": {f"{last}.lora_A.weight": (4, WIDTH), f"{last}.lora_B.weight": (WIDTH, 4)},
        "half": {f"{first}.lora_A.weight": (4, WIDTH)},
        "lokr": {f"{first}.lokr_w1": (4, WIDTH)},
    }
    words = {"wide": "another shape", "deep": "no layer layers.9", "half": "one side", "lokr": "no weight of a LoRA"}
    for name, shapes in contents.items():
        (loras / name).mkdir(parents=True)
        tensors = {key: torch.zeros(shape) for key, shape in shapes.items()}
        save_file(tensors, loras / name / "adapter_model.safetensors")
        refusal = refused(model, tmp_path, lora=name).info
        assert words[name] in refusal.message
        assert "of this checkpoint" in refusal.action
    build_lora(loras, "dora")
    settings = loras / "dora" / "adapter_config.json"
    settings.write_text(json.dumps({"use_dora": True}))
    assert "use_dora is not supported" in refused(model, tmp_path, lora="dora").info.message


def test_a_scratch_that_is_full_is_found_before_the_first_step(
    model: AceStepModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when all is denoised, and nowhere to be put; the next attempt goes on where there is room."""
    run = model.begin(job_of(model.spec, tmp_path, inference_steps=2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", _full)
        with pytest.raises(SoundfleetError) as caught:
            model.step([run])
    assert (caught.value.code, run.current_step) == (ErrorCode.SCRATCH_FULL, 0)
    while not run.done:
        model.step([run])
    assert model.finish(run).audio["track"].shape == (2, 10 * 48_000)


def _full(*_args: object) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")
