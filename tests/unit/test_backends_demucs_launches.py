"""Launches of Demucs: shared fairly, grown and shrunk, and never heard in what a run makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from demucs.apply import BagOfModels  # noqa: E402
from tests.small_demucs import (  # noqa: E402
    assert_close,
    demucs_says,
    estimates,
    job_of,
    noise,
    small_htdemucs,
    spec_of,
)

from soundfleet_schemas import STEMS  # noqa: E402
from soundfleet_worker.backends.demucs import DemucsModel, Separation  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bag() -> BagOfModels:
    """A bag of one small HTDemucs with random weights."""
    return BagOfModels([small_htdemucs(1)])


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_company_changes_nothing(bag: BagOfModels, tmp_path: Path, slots: int) -> None:
    """Bit for bit the same samples alone and among two others, because a launch always has the same shape."""
    model = DemucsModel(spec_of(), bag, "cpu", slots)
    jobs = [
        job_of(noise(seconds, seed), tmp_path / str(seed), spec_of(), shifts=1, seed=seed)
        for seed, seconds in enumerate((3.1, 0.3, 2.0))
    ]
    alone = [{stem: audio.copy() for stem, audio in estimates(model, [job])[0].items()} for job in jobs]
    together = estimates(model, jobs)
    for one, other in zip(alone, together, strict=True):
        for stem in STEMS:
            assert np.array_equal(one[stem], other[stem])


def test_a_launch_is_shared_fairly(bag: BagOfModels, tmp_path: Path) -> None:
    """With fewer slots than runs, no run is ever two windows ahead of another."""
    model = DemucsModel(spec_of(), bag, "cpu", 2)
    runs = [model.begin(job_of(noise(3.0), tmp_path / str(i), spec_of(), shifts=0)) for i in range(5)]
    while not any(run.done for run in runs):
        model.step(runs)
        steps = [run.current_step for run in runs]
        assert max(steps) - min(steps) <= 1


def test_heavy_models_are_not_shared_on_a_cpu(bag: BagOfModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would only stretch every run, against its time limit; a launch of several windows takes several runs."""
    assert DemucsModel(spec_of(), bag, "cpu").max_runs == 4
    monkeypatch.setattr("soundfleet_worker.backends.demucs.LIGHT_PARAMETERS", 10)
    assert DemucsModel(spec_of(), bag, "cpu").max_runs == 1
    assert DemucsModel(spec_of(), bag, "cpu", 8).max_runs == 8


def test_memory_that_runs_out_halves_the_launch(bag: BagOfModels) -> None:
    """Down to a single window; then only fewer runs can help."""
    model = DemucsModel(spec_of(), bag, "cpu", 4)
    assert [model.shrink(), model.shrink(), model.shrink()] == [True, True, False]


def test_a_launch_that_was_halved_grows_back(bag: BagOfModels) -> None:
    """Up to what it was at first, and it takes the memory that it took then."""
    model = DemucsModel(spec_of(), bag, "cpu", 6)
    before = model.memory_bytes
    assert not model.grow()
    while model.shrink():
        pass
    assert model.memory_bytes < before
    assert [model.grow(), model.grow(), model.grow(), model.grow()] == [True, True, True, False]
    assert model.memory_bytes == before


def test_a_launch_that_changes_its_size_midway_changes_only_rounding(bag: BagOfModels, tmp_path: Path) -> None:
    """No window is lost or made twice."""
    audio = noise(3.0)
    job = job_of(audio, tmp_path, spec_of(), overlap_duration=0.25, shifts=0)
    model = DemucsModel(spec_of(), bag, "cpu", 4)
    run = model.begin(job)
    model.shrink()
    model.shrink()
    while not run.done:
        model.step([run])
        model.grow()
    assert isinstance(run, Separation)
    ours = {stem: stem_audio.numpy() for stem, stem_audio in run.sums.take(run.mix.mean).items()}
    assert_close(ours, demucs_says(bag, audio, shifts=0, overlap=0.25))
