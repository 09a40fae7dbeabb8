"""Separation equals Demucs' own, and the stems that are delivered follow from it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from demucs.apply import BagOfModels  # noqa: E402
from demucs.demucs import Demucs  # noqa: E402
from demucs.hdemucs import HDemucs  # noqa: E402
from tests.small_demucs import (  # noqa: E402
    RATE,
    assert_close,
    demucs_says,
    estimates,
    job_of,
    noise,
    separate,
    small_htdemucs,
    spec_of,
)

from soundfleet_schemas import STEMS, SoundfleetError  # noqa: E402
from soundfleet_worker.backends.demucs import DemucsModel  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bag() -> BagOfModels:
    """A bag of one small HTDemucs with random weights."""
    return BagOfModels([small_htdemucs(1)])


@pytest.fixture(scope="module")
def specialists() -> BagOfModels:
    """A bag with one sub-model per stem, as htdemucs_ft is."""
    return BagOfModels([small_htdemucs(seed) for seed in range(4)], np.eye(4).tolist())


@pytest.mark.parametrize("slots", [1, 3, 8])
@pytest.mark.parametrize(("seconds", "overlap"), [(3.3, 0.25), (0.4, 0.25), (2.0, 0.1), (1.5, 0.8), (2.5, 0.0)])
def test_it_equals_apply_model(bag: BagOfModels, tmp_path: Path, slots: int, seconds: float, overlap: float) -> None:
    """Whatever the batch size, the overlap and the length, shorter than a segment too."""
    audio = noise(seconds)
    job = job_of(audio, tmp_path, spec_of(), overlap_duration=overlap, shifts=0)
    [ours] = estimates(DemucsModel(spec_of(), bag, "cpu", slots), [job])
    assert_close(ours, demucs_says(bag, audio, shifts=0, overlap=overlap))


@pytest.mark.parametrize("segment_sec", [0.33, 0.75])
def test_it_equals_apply_model_with_shorter_segments(bag: BagOfModels, tmp_path: Path, segment_sec: float) -> None:
    """HTDemucs pads a segment shorter than it was trained on."""
    audio = noise(2.2)
    job = job_of(audio, tmp_path, spec_of(), segment_duration=segment_sec, overlap_duration=segment_sec / 4, shifts=0)
    [ours] = estimates(DemucsModel(spec_of(), bag, "cpu", 2), [job])
    assert_close(ours, demucs_says(bag, audio, shifts=0, overlap=0.25, segment=segment_sec))


def test_it_equals_apply_model_with_shifts(bag: BagOfModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own generator stands for the global one from which Demucs draws."""
    audio = noise(1.7)
    job = job_of(audio, tmp_path, spec_of(), overlap_duration=0.25, shifts=3, seed=5)
    [ours] = estimates(DemucsModel(spec_of(), bag, "cpu", 2), [job])
    monkeypatch.setattr("demucs.apply.random", random.Random(5))
    assert_close(ours, demucs_says(bag, audio, shifts=3, overlap=0.25))


def test_it_equals_apply_model_for_a_weighted_bag(tmp_path: Path) -> None:
    """Sub-models count by their weights, stem by stem."""
    bag = BagOfModels([small_htdemucs(1), small_htdemucs(2)], [[1, 1, 0, 0.5], [0, 1, 1, 1.5]])
    audio = noise(2.1)
    job = job_of(audio, tmp_path, spec_of(), overlap_duration=0.25, shifts=0)
    [ours] = estimates(DemucsModel(spec_of(), bag, "cpu", 3), [job])
    assert_close(ours, demucs_says(bag, audio, shifts=0, overlap=0.25))


@pytest.mark.parametrize("kind", ["Demucs", "HDemucs"])
def test_it_equals_apply_model_for_the_older_classes(kind: str, tmp_path: Path) -> None:
    """The time-domain and the hybrid model see windows of other lengths than HTDemucs."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"channels": 8, "samplerate": RATE, "segment": 1}
    model = Demucs(list(STEMS), depth=3, lstm_layers=0, **shape) if kind == "Demucs" else HDemucs(list(STEMS), **shape)
    bag = BagOfModels([model.eval()])
    audio = noise(2.3)
    job = job_of(audio, tmp_path, spec_of(), overlap_duration=0.25, shifts=0)
    [ours] = estimates(DemucsModel(spec_of(), bag, "cpu", 2), [job])
    assert_close(ours, demucs_says(bag, audio, shifts=0, overlap=0.25))


def test_the_stems_add_up_to_the_mix(bag: BagOfModels, tmp_path: Path) -> None:
    """The residual is shared out, so that nothing of the song is lost."""
    audio = noise(2.0)
    output = separate(DemucsModel(spec_of(), bag, "cpu"), job_of(audio, tmp_path, spec_of()))
    np.testing.assert_allclose(sum(output.audio.values()), audio, atol=1e-6)
    assert output.parameters["residual"] == "shared"


def test_karaoke_is_the_mix_without_the_vocals(bag: BagOfModels, tmp_path: Path) -> None:
    """And the same as the other stems together."""
    audio, model = noise(2.0), DemucsModel(spec_of(), bag, "cpu")
    stems = separate(model, job_of(audio, tmp_path / "stems", spec_of())).audio
    karaoke = separate(model, job_of(audio, tmp_path / "karaoke", spec_of(), remove_vocals=True)).audio
    assert list(karaoke) == ["instrumental"]
    np.testing.assert_allclose(karaoke["instrumental"], stems["drums"] + stems["bass"] + stems["other"], atol=1e-6)


@pytest.mark.parametrize("stem", STEMS)
def test_two_stems_are_a_stem_and_the_rest_of_the_mix(bag: BagOfModels, tmp_path: Path, stem: str) -> None:
    """Of any stem; the rest is the other stems together, and nothing else is left in scratch."""
    audio, model = noise(2.0), DemucsModel(spec_of(), bag, "cpu")
    whole = separate(model, job_of(audio, tmp_path / "all", spec_of())).audio
    stems = {name: each.copy() for name, each in whole.items()}
    two = separate(model, job_of(audio, tmp_path / "two", spec_of(), two_stems=stem)).audio
    assert list(two) == [stem, f"no_{stem}"]
    assert np.array_equal(two[stem], stems.pop(stem))
    np.testing.assert_allclose(two[f"no_{stem}"], sum(stems.values()), atol=1e-6)
    np.testing.assert_allclose(two[stem] + two[f"no_{stem}"], audio, atol=1e-6)
    files = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert files == sorted([f"{stem}.npy", f"no_{stem}.npy", "mix.npy"])


def test_two_stems_of_a_bag_of_specialists_run_one_of_them(specialists: BagOfModels, tmp_path: Path) -> None:
    """A quarter of the cost; both files add up to the mix all the same, also when they are normalised."""
    audio, model = noise(2.0), DemucsModel(spec_of(), specialists, "cpu")
    whole = model.begin(job_of(audio, tmp_path / "all", spec_of(), shifts=0))
    job = job_of(audio, tmp_path / "two", spec_of(), two_stems="bass", normalize=True, shifts=0)
    assert 4 * model.begin(job).total_steps == whole.total_steps
    output = separate(model, job)
    total = sum(output.audio.values()) / output.parameters["gain"]
    np.testing.assert_allclose(total, audio, atol=1e-5)


def test_a_subset_is_the_same_stems(bag: BagOfModels, tmp_path: Path) -> None:
    """Asking for two stems gives what asking for all gives of them, and leaves no others in scratch."""
    audio, model = noise(2.0), DemucsModel(spec_of(), bag, "cpu")
    stems = separate(model, job_of(audio, tmp_path / "all", spec_of())).audio
    some = separate(model, job_of(audio, tmp_path / "some", spec_of(), stems=("vocals", "bass"))).audio
    assert list(some) == ["bass", "vocals"]
    assert all(np.array_equal(some[stem], stems[stem]) for stem in some)
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["bass.npy", "mix.npy", "vocals.npy"]


def test_normalising_keeps_the_balance(bag: BagOfModels, tmp_path: Path) -> None:
    """One gain for all stems brings the loudest peak to -1 dBFS."""
    audio, model = noise(2.0), DemucsModel(spec_of(), bag, "cpu")
    stems = separate(model, job_of(audio, tmp_path / "plain", spec_of())).audio
    output = separate(model, job_of(audio, tmp_path / "loud", spec_of(), normalize=True))
    assert max(np.abs(stem).max() for stem in output.audio.values()) == pytest.approx(10 ** (-1 / 20), rel=1e-5)
    for stem in STEMS:
        np.testing.assert_allclose(output.audio[stem], stems[stem] * output.parameters["gain"], rtol=1e-5)


def test_silence_gives_silence(bag: BagOfModels, tmp_path: Path) -> None:
    """No division by zero, and no gain for nothing."""
    output = separate(
        DemucsModel(spec_of(), bag, "cpu"),
        job_of(np.zeros((2, RATE), dtype=np.float32), tmp_path, spec_of(), normalize=True),
    )
    assert all(np.abs(stem).max() < 1e-5 for stem in output.audio.values())


def test_one_stem_of_a_bag_of_specialists_costs_one_of_them(specialists: BagOfModels, tmp_path: Path) -> None:
    """Sub-models that do not count for what is wanted are not run."""
    model = DemucsModel(spec_of(), specialists, "cpu")
    audio = noise(2.0)
    every = model.begin(job_of(audio, tmp_path / "all", spec_of()))
    job = job_of(audio, tmp_path / "one", spec_of(), stems=("bass",), shifts=0)
    one = model.begin(job)
    assert one.total_steps == every.total_steps // 4 or one.total_steps * 4 < every.total_steps
    output = separate(model, replace(job, scratch=tmp_path / "one"))
    want = demucs_says(BagOfModels([specialists.models[1]]), audio, shifts=0, overlap=0.25)["bass"]
    np.testing.assert_allclose(output.audio["bass"], want, atol=1e-5)
    assert output.parameters["residual"].startswith("left out")


def test_a_separation_without_audio_is_refused(bag: BagOfModels, tmp_path: Path) -> None:
    """The supervisor's mistake, told by name."""
    job = replace(job_of(noise(0.5), tmp_path, spec_of()), inputs={})
    with pytest.raises(SoundfleetError, match="without decoded audio"):
        DemucsModel(spec_of(), bag, "cpu").begin(job)
