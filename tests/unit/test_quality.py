"""Judging separations: exact where the truth is given, in the right order where it is not."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numpy", reason="needs the worker extra")
from soundfleet_schemas import QualityMetrics
from soundfleet_worker.audio.levels import si_sdr
from soundfleet_worker.quality import assess
from soundfleet_worker.quality.calibrate import rank_correlation, songs
from soundfleet_worker.quality.judge import score_of
from soundfleet_worker.quality.spectra import EXCERPT_SEC, EXCERPTS, excerpts
from soundfleet_worker.quality.spoil import spoilt
from soundfleet_worker.sketch import STEMS, compose, render

RATE = 44_100
Stems = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def true() -> Stems:
    """The true stems of a sketch."""
    return dict(render(compose("happy sunny guitar", 3, 12.0, RATE)))


@pytest.fixture(scope="module")
def noisy(true: Stems) -> Stems:
    """Stems with noise 10 dB below them, that still add up to the mix as nearly as noise does."""
    chance = np.random.default_rng(1)
    return {stem: audio + _noise_below(audio, 10.0, chance) for stem, audio in true.items()}


def _noise_below(audio: np.ndarray, decibels: float, chance: np.random.Generator) -> np.ndarray:
    noise = chance.standard_normal(audio.shape).astype(np.float32)
    return noise * np.float32(np.sqrt(np.square(audio).mean() / 10 ** (decibels / 10)))


def judged(stems: Stems, true: Stems, **how: object) -> QualityMetrics:
    """The judgement of stems that must have one, of the mix of true stems."""
    mix = np.sum(list(true.values()), axis=0)
    metrics = assess(stems, mix, how.pop("references", {}), sample_rate=RATE, **how)  # type: ignore[arg-type]
    assert metrics is not None
    return metrics


def test_a_score_is_the_share_of_energy_that_is_the_true_stem() -> None:
    """Which is what SI-SDR says in other words."""
    assert score_of(0.0) == 0.5
    assert score_of(4.7712) == pytest.approx(0.75, abs=1e-4)
    assert score_of(10.0) == pytest.approx(0.909, abs=1e-3)
    assert score_of(-100.0) < 1e-9 < 1 - 1e-9 < score_of(100.0)


def test_with_references_it_is_measured(true: Stems, noisy: Stems) -> None:
    """Over the whole length, in dB as in scores; and the method says so."""
    metrics = judged(noisy, true, references=true)
    assert metrics.method == "si-sdr"
    assert metrics.si_sdr_db == {stem: pytest.approx(10.0, abs=0.1) for stem in STEMS}
    assert metrics.scores["other"] == metrics.overall_score == pytest.approx(10 / 11, abs=0.003)
    assert metrics.vocal_isolation == metrics.scores["vocals"]
    assert metrics.drum_separation == metrics.scores["drums"]
    assert metrics.bass_isolation == metrics.scores["bass"]
    assert metrics.artifact_reduction == pytest.approx(10 / 11, abs=0.02), "noise is all artifact"


def test_leakage_is_no_artifact(true: Stems) -> None:
    """Another instrument's sound is a fault of separation, but it is sound of the song."""
    leaking = {**true, "drums": true["drums"] + 0.5 * true["bass"]}
    metrics = judged(leaking, true, references=true)
    assert metrics.scores["drums"] < 0.95
    assert metrics.artifact_reduction > 0.99


def test_an_exact_copy_has_a_number(true: Stems) -> None:
    """JSON knows no infinity; neither level nor gain matters."""
    metrics = judged({stem: 0.5 * audio for stem, audio in true.items()}, true, references=true, gain=0.5)
    assert set(metrics.si_sdr_db.values()) == {100.0}
    assert metrics.overall_score == 1.0


def test_some_references_are_some_measurements(true: Stems, noisy: Stems) -> None:
    """The others are estimated, and the method names which is which."""
    metrics = judged(noisy, true, references={"bass": true["bass"]})
    assert metrics.method == "si-sdr of bass, else estimate-1"
    assert list(metrics.si_sdr_db) == ["bass"]
    assert list(metrics.scores) == list(noisy)


@pytest.mark.parametrize("missing", [-5_000, 5_000])
def test_a_reference_of_another_length_is_cut_or_ends_in_silence(true: Stems, noisy: Stems, missing: int) -> None:
    """A tenth of a second costs next to nothing."""
    short = {stem: np.pad(audio, ((0, 0), (0, 5_000)))[:, : audio.shape[1] + missing] for stem, audio in true.items()}
    assert judged(noisy, true, references=short).si_sdr_db["drums"] == pytest.approx(10.0, abs=0.5)


def test_estimates_put_separations_into_the_order_of_their_true_distortion() -> None:
    """Of sketches that the fit has not seen, separated by a model, and then made better and worse in many ways."""
    torch = pytest.importorskip("torch", reason="needs the worker extra")
    torch.set_num_threads(1)  # a small model gains nothing from more, and loses much on a busy machine
    said, wanted = [], []
    part = slice(4_096, -8_192)  # masks leave the ends half done
    for seed, stems, estimates in songs([501]):
        for _, separated in spoilt(stems, estimates, seed):
            cut = dict(zip(STEMS, separated[:, :, part], strict=True))
            metrics = assess(cut, separated.sum(axis=0)[:, part], {}, sample_rate=RATE)
            assert metrics is not None
            said.append(metrics.overall_score)
            wanted.append(np.mean([score_of(si_sdr(stems[k][:, part], separated[k][:, part])) for k in range(4)]))
    assert rank_correlation(np.array(said), np.array(wanted)) > 0.6


def test_an_estimate_says_that_it_is_one_and_is_always_the_same(true: Stems, noisy: Stems) -> None:
    """Bit for bit, and within its range."""
    metrics = judged(noisy, true)
    assert metrics == judged(noisy, true)
    assert metrics.method == "estimate-1"
    assert metrics.si_sdr_db == {}
    assert all(0.3 < score < 0.995 for score in metrics.scores.values())
    assert judged(true, true).overall_score > metrics.overall_score


def test_karaoke_is_judged_by_what_it_took_out(true: Stems, noisy: Stems) -> None:
    """The field is the vocals', the score the delivered file's."""
    mix = np.sum(list(true.values()), axis=0)
    instrumental = {"instrumental": 0.5 * (mix - noisy["vocals"])}
    how = {"rest": "instrumental", "of": "vocals", "gain": 0.5}
    metrics = judged(instrumental, true, references={"vocals": true["vocals"]}, **how)
    assert list(metrics.scores) == ["instrumental"]
    assert metrics.vocal_isolation == pytest.approx(10 / 11, abs=0.01)
    assert metrics.drum_separation is None
    assert metrics.scores["instrumental"] == metrics.overall_score > 0.9
    assert judged(instrumental, true, **how).vocal_isolation is not None


def test_two_stems_are_judged_both(true: Stems, noisy: Stems) -> None:
    """The rest against the mix without the reference."""
    mix = np.sum(list(true.values()), axis=0)
    both = {"bass": noisy["bass"], "no_bass": mix - noisy["bass"]}
    metrics = judged(both, true, references={"bass": true["bass"]}, rest="no_bass", of="bass")
    assert metrics.method == "si-sdr"
    assert metrics.bass_isolation == metrics.scores["bass"] == pytest.approx(10 / 11, abs=0.003)
    assert metrics.scores["no_bass"] > 0.9


def test_stems_that_the_fields_do_not_name_are_scored_too(true: Stems) -> None:
    """Guitar and piano of a model with six stems; one stem alone."""
    six = {**true, "guitar": 0.5 * true["other"], "piano": 0.5 * true["other"]}
    assert set(judged(six, true).scores) == set(six)
    alone = judged({"other": true["other"]}, true)
    assert (alone.vocal_isolation, alone.drum_separation, alone.bass_isolation) == (None, None, None)
    assert alone.overall_score == alone.scores["other"]


def test_silence_is_not_judged(true: Stems) -> None:
    """A silent stem is left out; nothing but silence has no judgement at all."""
    silent = np.zeros_like(true["bass"])
    metrics = judged({**true, "vocals": silent}, true)
    assert "vocals" not in metrics.scores
    assert metrics.vocal_isolation is None
    assert assess({"drums": silent}, silent, {"drums": silent}, sample_rate=RATE) is None


def test_what_is_no_music_has_a_judgement_or_none_but_never_nonsense(true: Stems) -> None:
    """A constant, a click, one silent side: whatever is said of it is a number that JSON holds."""
    mix = np.sum(list(true.values()), axis=0)
    click = np.zeros_like(mix)
    click[:, 3 * RATE] = 1.0
    left = np.stack([mix[0], np.zeros_like(mix[0])])
    for odd in (np.full_like(mix, 0.3), click, left, mix, -mix):
        metrics = assess({"other": odd}, mix, {}, sample_rate=RATE)
        assert metrics is None or 0.0 <= metrics.overall_score <= 1.0
    assert assess({"other": click}, click, {}, sample_rate=RATE) is not None


def test_mono_is_judged_like_stereo(true: Stems) -> None:
    """One channel twice."""
    mono = {stem: np.stack([audio[0]] * 2) for stem, audio in true.items()}
    mix = np.sum(list(mono.values()), axis=0)
    metrics = assess(mono, mix, mono, sample_rate=RATE)
    assert metrics is not None
    assert metrics.overall_score == 1.0


@pytest.mark.parametrize(("seconds", "estimated"), [(0.01, False), (0.2, False), (2.0, True)])
def test_what_is_too_short_is_not_estimated(true: Stems, seconds: float, estimated: bool) -> None:
    """Below a second or so there is nothing to see yet; what can be measured is measured."""
    short = {stem: audio[:, 4 * RATE : 4 * RATE + round(seconds * RATE)] for stem, audio in true.items()}
    mix = np.sum(list(short.values()), axis=0)
    assert (assess(short, mix, {}, sample_rate=RATE) is not None) == estimated
    measured = assess(short, mix, short, sample_rate=RATE)
    assert (measured is not None) == (seconds > 0.05)


@pytest.mark.parametrize("seconds", [0.5, 8.9, 9.1, 18.0, 18.1, 600.0])
def test_excerpts_are_spread_over_the_song_and_its_channels(seconds: float) -> None:
    """As many seconds of any song, from its beginning to its end, never beyond it."""
    samples = round(seconds * RATE)
    chosen = excerpts(samples, RATE)
    assert {excerpt.channel for excerpt in chosen} == {0, 1}
    assert chosen[0].part.start == 0
    assert chosen[-1].part.stop == samples
    assert sum(part.stop - part.start for _, part in chosen) <= EXCERPTS * EXCERPT_SEC * RATE + EXCERPTS
    assert all(0 <= part.start < part.stop <= samples for _, part in chosen)
