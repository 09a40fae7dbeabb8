"""The same seed makes the same samples, to the bit, whoever else is there; and nobody is forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
from tests.ace_step_checkpoint import build, build_lora, job_of, load, play, recording  # noqa: E402

from soundfleet_schemas import SchedulerType, SoundfleetError, Task  # noqa: E402
from soundfleet_worker.ace_step.song import Song  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepModel  # noqa: E402
from soundfleet_worker.backends.contract import EngineJob, Run  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a guided checkpoint lies, with a LoRA beside it."""
    folder = tmp_path_factory.mktemp("models")
    build_lora(folder / "loras", "night")
    return build(folder / "acestep-v15-base", turbo=False)


@pytest.fixture(scope="module")
def model(folder: Path) -> AceStepModel:
    """Four runs share a launch of the transformer, two tiles one of the VAE."""
    return load(folder, slots=4, tiles=2)


@pytest.fixture(scope="module")
def anew(folder: Path) -> AceStepModel:
    """The same checkpoint, loaded a second time."""
    return load(folder, slots=4, tiles=2)


KINDS: dict[str, dict[str, Any]] = {
    "euler": {"lyrics": "rain"},
    "heun": {"scheduler": SchedulerType.Heun},
    "pingpong": {"scheduler": SchedulerType.PingPong, "guidance_scale": 1.0},
    "a cover": {"task": Task.cover, "cover_strength": 0.5},
    "a lora": {"lora": "night"},
}


def wanted(model: AceStepModel, tmp_path: Path, kind: str) -> EngineJob:
    asked = KINDS[kind]
    inputs = {"source": recording(tmp_path / "source.npy", 10.0)} if "task" in asked else {}
    return job_of(model.spec, tmp_path, inputs=inputs, prompt="soft rain", **asked)


def company(model: AceStepModel, tmp_path: Path) -> list[EngineJob]:
    """Seven others: of the same shapes and of others, some with loud words; two end early and become audio."""
    asked: list[dict[str, Any]] = [
        {"prompt": "a", "seed": 1},
        {"prompt": "drums " * 60, "seed": 2, "scheduler": SchedulerType.PingPong},
        {"lyrics": "la " * 100, "seed": 3, "inference_steps": 20},
        {"seed": 4, "guidance_scale": 1.0, "inference_steps": 20},
        {"seed": 5, "guidance_scale": 30.0, "shift": 1.0, "inference_steps": 20},
        {"seed": 6, "duration_sec": 11, "inference_steps": 20},
        {"seed": 7, "lora": "night", "inference_steps": 20},
    ]
    return [job_of(model.spec, tmp_path, **one) for one in asked]


def finish(model: AceStepModel, run: Run, others: list[Run]) -> np.ndarray:
    """Step all until ``run`` is done; the others stay where they are then."""
    crowd = [run, *(other for other in others if other is not run)]
    while not run.done:
        model.step([other for other in crowd if not other.done])
    return model.finish(run).audio["track"]


@pytest.mark.parametrize("kind", KINDS)
def test_company_changes_no_sample(model: AceStepModel, anew: AceStepModel, tmp_path: Path, kind: str) -> None:
    """Alone; as the third of eight; joining them midway; and on a model that was loaded anew."""
    [alone] = play(model, wanted(model, tmp_path, kind))
    others = company(model, tmp_path)
    eight = [model.begin(job) for job in (*others[:2], wanted(model, tmp_path, kind), *others[2:])]
    together = finish(model, eight[2], eight)
    assert np.array_equal(together, alone.audio["track"])

    before = [model.begin(job) for job in company(model, tmp_path)]
    for _ in range(4):
        model.step(before)
    late = finish(model, model.begin(wanted(model, tmp_path, kind)), before)
    assert np.array_equal(late, alone.audio["track"])

    [cold] = play(anew, wanted(anew, tmp_path, kind))
    assert np.array_equal(cold.audio["track"], alone.audio["track"])


def test_words_that_need_no_padding_are_heard_the_same_in_company(model: AceStepModel, tmp_path: Path) -> None:
    """Alone they would need no mask either; beside shorter ones there is one."""

    def job(words: int) -> EngineJob:
        return job_of(model.spec, tmp_path, lyrics="la" * words, guidance_scale=1.0)

    exact, shorter = (next(n for n in range(200) if length_of(model, job(n)) == length) for length in (256, 254))
    [alone] = play(model, job(exact))
    together = play(model, job(exact), job(shorter))
    assert np.array_equal(together[0].audio["track"], alone.audio["track"])


def length_of(model: AceStepModel, job: EngineJob) -> int:
    run = model.begin(job)
    assert isinstance(run, Song)
    model.discard(run)
    return run.words.count


def test_who_leaves_changes_nothing_for_the_others(model: AceStepModel, tmp_path: Path) -> None:
    """One run is cancelled in the middle, one ends early, one cannot even begin."""
    staying = [job_of(model.spec, tmp_path, seed=seed, inference_steps=6) for seed in (1, 2)]
    alone = [play(model, job)[0].audio["track"] for job in staying]
    runs = [model.begin(job) for job in staying]
    cancelled = model.begin(job_of(model.spec, tmp_path, seed=3, inference_steps=6))
    short = model.begin(job_of(model.spec, tmp_path, seed=4, inference_steps=1))
    with pytest.raises(SoundfleetError):
        model.begin(job_of(model.spec, tmp_path, lora="none"))
    for _ in range(3):
        model.step([run for run in (*runs, cancelled, short) if not run.done])
    model.discard(cancelled)
    finish(model, short, runs)
    together = [finish(model, run, runs) for run in runs]
    assert all(np.array_equal(one, other) for one, other in zip(together, alone, strict=True))


def test_twenty_runs_of_five_lengths_all_end_right(folder: Path, tmp_path: Path) -> None:
    """In launches of four, each with its own music, of its own length, as if it were alone."""
    model = load(folder, slots=4, tiles=2)
    jobs = [
        job_of(model.spec, tmp_path, seed=seed, duration_sec=5 + seed % 5 * 2, inference_steps=2, guidance_scale=1.0)
        for seed in range(20)
    ]
    outputs = play(model, *jobs)
    lengths = [output.audio["track"].shape[1] for output in outputs]
    assert lengths == [(5 + seed % 5 * 2) * 48_000 for seed in range(20)]
    for index in (0, 7, 19):
        [alone] = play(model, job_of(model.spec, tmp_path, **_same(jobs[index])))
        # Not to the bit: with AVX2's kernels a row's place in a launch of four decides how its last bit is rounded.
        np.testing.assert_allclose(outputs[index].audio["track"], alone.audio["track"], atol=1e-5)
    assert len({output.audio["track"][:, 4000:4010].tobytes() for output in outputs}) == 20


def _same(job: EngineJob) -> dict[str, Any]:
    names = ("seed", "duration_sec", "inference_steps", "guidance_scale")
    return {name: getattr(job.request, name) for name in names}


def test_a_launch_takes_runs_of_different_progress(model: AceStepModel, tmp_path: Path) -> None:
    """Each at its own timestep: a late run does not wait for the early one to end."""
    early = model.begin(job_of(model.spec, tmp_path, seed=1, inference_steps=8))
    for _ in range(3):
        model.step([early])
    late = model.begin(job_of(model.spec, tmp_path, seed=2, inference_steps=3))
    model.step([early, late])
    assert (early.current_step, late.current_step) == (4, 1)
    for run in (early, late):
        model.discard(run)


def test_groups_take_turns(model: AceStepModel, tmp_path: Path) -> None:
    """A lonely run of another shape has every second launch, though four share the others."""
    crowd = [model.begin(job_of(model.spec, tmp_path, seed=seed, inference_steps=8)) for seed in range(4)]
    lonely = model.begin(job_of(model.spec, tmp_path, duration_sec=20, inference_steps=8))
    for _ in range(6):
        model.step([*crowd, lonely])
    assert [run.current_step for run in (*crowd, lonely)] == [3] * 5
    for run in (*crowd, lonely):
        model.discard(run)


def test_more_runs_than_a_launch_takes_go_in_turn(model: AceStepModel, tmp_path: Path) -> None:
    """Who was left out comes first in the next."""
    runs = [model.begin(job_of(model.spec, tmp_path, seed=seed)) for seed in range(6)]
    model.step(runs)
    assert [run.current_step for run in runs] == [1, 1, 1, 1, 0, 0]
    model.step(runs)
    assert [run.current_step for run in runs] == [2, 2, 1, 1, 1, 1]
    for run in runs:
        model.discard(run)


def test_a_launch_that_ran_out_of_memory_is_repeated(
    model: AceStepModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any phase, and nothing is drawn or counted twice."""

    def job() -> EngineJob:
        return job_of(model.spec, tmp_path, scheduler=SchedulerType.PingPong)

    [undisturbed] = play(model, job())
    run = model.begin(job())
    assert isinstance(run, Song)
    parts = model._parts
    while not run.done:
        step = run.current_step
        with monkeypatch.context() as patch:
            for module in (parts.transformer.layers[-1].mlp.down_proj, parts.vae.decoder.conv2):
                patch.setattr(module, "forward", _no_memory)
            with pytest.raises(torch.OutOfMemoryError):
                model.step([run])
        assert run.current_step == step
        model.step([run])
    assert np.array_equal(model.finish(run).audio["track"], undisturbed.audio["track"])


def _no_memory(*_args: object, **_kwargs: object) -> None:
    raise torch.OutOfMemoryError


def test_launches_shrink_and_grow_back(folder: Path, tmp_path: Path) -> None:
    """Down to one run at a time; the music stays the same but for rounding."""
    model = load(folder, slots=4, tiles=2)
    [before] = play(model, job_of(model.spec, tmp_path))
    large = model.memory_bytes
    assert model.shrink()
    assert model.shrink()
    assert not model.shrink()
    assert model.memory_bytes < large
    [smaller] = play(model, job_of(model.spec, tmp_path))
    np.testing.assert_allclose(smaller.audio["track"], before.audio["track"], atol=1e-4)
    assert model.grow()
    assert model.grow()
    assert not model.grow()
    assert model.memory_bytes == large
