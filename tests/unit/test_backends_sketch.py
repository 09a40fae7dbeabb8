"""The sketch backend keeps the contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numpy", reason="needs the worker extra")
from soundfleet_schemas import CATALOG, GenerationRequest
from soundfleet_worker.backends.contract import EngineJob, Model, ModelConfig, Output
from soundfleet_worker.backends.sketch import SketchFactory


@pytest.fixture
def model() -> Model:
    """The loaded synthesizer."""
    return SketchFactory(CATALOG["sketch"], ModelConfig()).load("cpu", lambda _status, _percent: None)


def job_of(prompt: str, seed: int) -> EngineJob:
    request = GenerationRequest(prompt=prompt, duration_sec=6, backend="sketch", seed=seed)
    return EngineJob("job", request, CATALOG["sketch"], scratch=Path())


def outputs(model: Model, jobs: list[EngineJob]) -> list[Output]:
    runs = [model.begin(job) for job in jobs]
    while going := [run for run in runs if not run.done]:
        before = [run.current_step for run in going]
        model.step(going)
        assert all(run.current_step > step for run, step in zip(going, before, strict=True))
    return [model.finish(run) for run in runs]


def test_a_track_is_48_khz_stereo_of_the_asked_length(model: Model) -> None:
    """And says how it was made."""
    [output] = outputs(model, [job_of("warm lofi 80 bpm", 3)])
    assert output.sample_rate == 48_000
    assert output.audio["track"].shape == (2, 6 * 48_000)
    assert output.audio["track"].dtype == np.float32
    assert output.parameters["seed"] == 3
    assert output.parameters["bpm"] == pytest.approx(80, abs=1)
    assert output.parameters["key"].split()[1] in ("major", "minor", "dorian")


def test_company_changes_nothing(model: Model) -> None:
    """The same seed gives the same samples, alone and among others; another seed gives others."""
    jobs = [job_of("rain", 1), job_of("rain", 2), job_of("sun", 1)]
    alone = [outputs(model, [job])[0].audio["track"] for job in jobs]
    together = [output.audio["track"] for output in outputs(model, jobs)]
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
    assert not np.array_equal(alone[0], alone[1])


def test_memory_grows_with_the_duration(model: Model) -> None:
    """More than the track itself, which is there at the end."""
    assert model.memory_of(job_of("x", 1)) > 2 * 4 * 6 * 48_000
