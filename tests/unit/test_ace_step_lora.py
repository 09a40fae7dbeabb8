"""A LoRA acts on every layer that it names, is the one that lies there now, and is named in the result."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
from tests.ace_step_checkpoint import build, build_lora, job_of, load, play  # noqa: E402

from soundfleet_schemas import ErrorCode, SoundfleetError  # noqa: E402
from soundfleet_worker.ace_step import launches  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepModel  # noqa: E402

EMBEDDER = ("condition_embedder",)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a guided checkpoint lies."""
    return build(tmp_path_factory.mktemp("models") / "acestep-v15-base", turbo=False)


@pytest.fixture(scope="module")
def model(folder: Path) -> AceStepModel:
    """That checkpoint, two runs in a launch."""
    return load(folder, slots=2)


def sound(model: AceStepModel, tmp_path: Path, **asked: Any) -> np.ndarray:
    [output] = play(model, job_of(model.spec, tmp_path, **asked))
    return output.audio["track"]


@pytest.mark.parametrize("guidance", [1.0, 7.0])
def test_it_acts_on_what_is_made_once_too(model: AceStepModel, folder: Path, tmp_path: Path, guidance: float) -> None:
    """The words are embedded before the first step: by a layer that a LoRA may name."""
    plain = sound(model, tmp_path, guidance_scale=guidance)
    added = build_lora(folder.parent / "loras", "words", alpha=2.0, layers=EMBEDDER)
    ours = sound(model, tmp_path, guidance_scale=guidance, lora="words")
    merged = load(folder, slots=2)
    weights = merged._parts.transformer.state_dict()
    for name, addition in added.items():
        weights[name] += addition
    theirs = sound(merged, tmp_path, guidance_scale=guidance)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(ours - plain).max() > 0.01


def test_each_run_is_prepared_once_with_its_own(
    model: AceStepModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever else is on the device."""
    for seed, name in enumerate(("dawn", "dusk"), 1):
        build_lora(folder.parent / "loras", name, seed=seed, layers=EMBEDDER)
    wishes: list[dict[str, Any]] = [{"lora": "dawn"}, {"lora": "dusk"}, {}, {"lora": "dawn", "seed": 8}]
    alone = [sound(model, tmp_path, **wish) for wish in wishes]
    made = []
    conditions_of = launches.conditions_of

    def counted(*args: Any, **how: Any) -> Any:
        made.append(args)
        return conditions_of(*args, **how)

    monkeypatch.setattr(launches, "conditions_of", counted)
    together = play(model, *(job_of(model.spec, tmp_path, **wish) for wish in wishes))
    assert len(made) == len(wishes)
    for one, output in zip(alone, together, strict=True):
        np.testing.assert_allclose(output.audio["track"], one, atol=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 0.01


def test_a_file_that_was_replaced_acts_and_one_that_was_removed_is_refused(
    model: AceStepModel, folder: Path, tmp_path: Path
) -> None:
    """For runs that begin then; one that began before keeps its own. The result tells them apart."""
    loras = folder.parent / "loras"
    build_lora(loras, "mine", seed=1)
    [before] = play(model, job_of(model.spec, tmp_path, lora="mine"))
    begun = [model.begin(job_of(model.spec, tmp_path, lora="mine")) for _ in range(2)]
    build_lora(tmp_path, "mine", alpha=4.0, rank=8, seed=2)
    shutil.rmtree(loras / "mine")
    shutil.move(tmp_path / "mine", loras / "mine")
    [after] = play(model, job_of(model.spec, tmp_path, lora="mine"))
    assert np.abs(after.audio["track"] - before.audio["track"]).max() > 0.01
    shutil.rmtree(loras / "mine")
    with pytest.raises(SoundfleetError) as caught:
        model.begin(job_of(model.spec, tmp_path, lora="mine"))
    assert caught.value.code is ErrorCode.INVALID_OPTION
    while going := [run for run in begun if not run.done]:
        model.step(going)
    for run in begun:
        np.testing.assert_allclose(model.finish(run).audio["track"], before.audio["track"], atol=1e-5)
    named = [output.parameters["weights"][-1] for output in (before, after)]
    assert all(name.startswith("lora-mine-") for name in named)
    assert named[0] != named[1]


def test_memory_that_runs_out_is_not_the_files_fault(
    model: AceStepModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine makes room and tries again; the file is read then."""
    build_lora(folder.parent / "loras", "large")

    def full(*_args: object, **_how: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "to", full)
        with pytest.raises(torch.OutOfMemoryError):
            model._launcher.loras.find("large")
    assert model._launcher.loras.find("large").name == "large"
