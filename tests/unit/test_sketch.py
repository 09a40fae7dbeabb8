"""The sketch synthesizer: deterministic, exact, pleasant enough, and rendered one bar at a time."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest

from soundfleet_worker.sketch import STEMS, Piece, Render, Samples, compose, mixture, read_mood, render

RATE = 16_000
PROMPTS = [
    "",
    "slow rainy night",
    "happy guitar 120 bpm",
    "jazzy piano in f# minor",
    "日本語 🎧 lofi",
    "sparse ambient",
]


def digest(stems: dict[str, Samples]) -> str:
    return hashlib.sha256(b"".join(stems[stem].tobytes() for stem in STEMS)).hexdigest()


def decibels(audio: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-12))


def test_the_same_arguments_give_the_same_bytes() -> None:
    """Nothing but the arguments decides the audio."""
    one, two = (render(compose("warm lofi", 7, 6.0, RATE)) for _ in range(2))
    assert digest(one) == digest(two)


@pytest.mark.parametrize(("prompt", "seed"), [("warm lofi", 8), ("warm lofi tonight", 7), ("cold lofi", 7)])
def test_another_seed_or_another_word_gives_another_piece(prompt: str, seed: int) -> None:
    """Words that the lexicon does not know still count."""
    assert digest(render(compose(prompt, seed, 6.0, RATE))) != digest(render(compose("warm lofi", 7, 6.0, RATE)))


def test_the_score_itself_is_deterministic() -> None:
    """Two compositions are equal values, cheap to compare."""
    assert compose("x", 1, 30.0) == compose("x", 1, 30.0)
    assert compose("x", 1, 30.0) != compose("x", 2, 30.0)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_piece_is_well_mixed(prompt: str) -> None:
    """Stereo float32, no clipping, a sensible loudness, four stems of comparable energy."""
    stems = render(compose(prompt, 3, 12.0, RATE))
    mix = mixture(stems)
    assert tuple(stems) == STEMS
    assert np.abs(mix).max() <= 0.9
    assert -20.0 < decibels(mix) < -15.5
    for stem in STEMS:
        assert stems[stem].dtype == np.float32
        assert stems[stem].shape == (2, 12 * RATE)
        assert np.isfinite(stems[stem]).all()
        assert -12.0 < decibels(stems[stem]) - decibels(mix) < -2.0


def test_the_mixture_is_exactly_the_sum_of_the_stems() -> None:
    """Bit for bit, in the order of the stems: mastering happens before the sum."""
    stems = render(compose("warm lofi", 1, 8.0, RATE))
    assert np.array_equal(mixture(stems), stems["drums"] + stems["bass"] + stems["other"] + stems["vocals"])


def test_no_stem_is_silent_for_long_within_the_body() -> None:
    """Rests are musical; four seconds without a stem are a mistake."""
    piece = compose("minimal ambient sleep", 5, 20.0, RATE)
    for stem, audio in render(piece).items():
        windows = audio[:, : 20 * RATE].reshape(2, 5, 4 * RATE)
        levels = [decibels(windows[:, index]) for index in range(5)]
        assert min(levels) > -45.0, (stem, levels)


def test_chords_are_wide_and_bass_and_voice_are_centred() -> None:
    """The stereo picture of a small band."""
    stems = render(compose("warm lofi", 2, 8.0, RATE))
    assert np.array_equal(*stems["bass"])
    assert np.array_equal(*stems["vocals"])
    assert decibels(stems["other"][0] - stems["other"][1]) > decibels(stems["other"]) - 9.0


def test_the_register_of_each_stem_is_its_own() -> None:
    """Bass below the chords, chords below the voice."""

    def median_hz(audio: Samples) -> float:
        power = np.cumsum(np.abs(np.fft.rfft(audio.mean(0))) ** 2)
        return float(np.searchsorted(power, 0.5 * power[-1]) * RATE / audio.shape[1])

    stems = render(compose("warm lofi", 4, 10.0, RATE))
    assert median_hz(stems["bass"]) < 120.0 < median_hz(stems["other"]) < 420.0 < median_hz(stems["vocals"])


@pytest.mark.parametrize("duration_sec", [5.0, 7.3337, 240.0])
def test_the_length_is_exact(duration_sec: float) -> None:
    """Both bounds, and a duration that is no whole number of samples."""
    rate = 8_000 if duration_sec > 100 else 44_100
    stems = render(compose("warm lofi", 1, duration_sec, rate))
    assert all(audio.shape == (2, round(duration_sec * rate)) for audio in stems.values())


@pytest.mark.parametrize("duration_sec", [0.0, 4.999, 240.001, float("nan"), float("inf")])
def test_a_duration_out_of_bounds_is_refused(duration_sec: float) -> None:
    """The message names the field and the bounds."""
    with pytest.raises(ValueError, match="duration_sec must be 5 to 240"):
        compose("warm lofi", 1, duration_sec)


def test_a_sample_rate_out_of_bounds_is_refused() -> None:
    """The message names the field."""
    with pytest.raises(ValueError, match="sample_rate must be"):
        compose("warm lofi", 1, 10.0, 0)


def test_a_piece_begins_and_ends_in_silence() -> None:
    """Fades: no click at either end."""
    mix = mixture(render(compose("warm lofi", 6, 10.0, RATE)))
    assert np.abs(mix[:, :4]).max() < 0.01
    assert np.abs(mix[:, -4:]).max() < 0.001


@pytest.mark.parametrize(("prompt", "bpm"), [("lofi 90 bpm", 90.0), ("72.5BPM", 72.5), ("400 bpm", 160.0)])
def test_the_prompt_may_name_the_tempo(prompt: str, bpm: float) -> None:
    """A tempo beyond the playable range is brought to its edge."""
    assert read_mood(prompt, 0).bpm == bpm


def test_words_bend_the_mood() -> None:
    """Tempo, mode, instrument, density, brightness and swing follow the words, whatever the seed."""
    for seed in range(10):
        plain = read_mood("", seed)
        assert read_mood("slow", seed).bpm != read_mood("fast", seed).bpm
        assert read_mood("sad", seed).mode == "minor"
        assert read_mood("happy", seed).mode == "major"
        assert read_mood("acoustic guitar", seed).keys == "guitar"
        assert 0.0 <= plain.density <= 1.0
        assert 0.0 <= plain.brightness <= 1.0
        assert 0.0 <= plain.swing <= 0.4


@pytest.mark.parametrize(
    ("prompt", "key", "mode"), [("in c major", 0, "major"), ("f# minor", 6, "minor"), ("b flat major", 10, "major")]
)
def test_the_prompt_may_name_the_key(prompt: str, key: int, mode: str) -> None:
    """Sharps and flats are understood."""
    mood = read_mood(prompt, 1)
    assert (mood.key, mood.mode) == (key, mode)


def test_slow_pieces_have_fewer_bars_than_fast_ones() -> None:
    """The tempo reaches the score."""
    assert len(compose("60 bpm", 1, 60.0).bars) < len(compose("120 bpm", 1, 60.0).bars)


def test_a_render_advances_one_bar_at_a_time() -> None:
    """Two renders advanced in turn give the same audio as one rendered whole."""
    pieces = [compose("warm lofi", seed, 9.0, RATE) for seed in (1, 2)]
    jobs = [Render(piece) for piece in pieces]
    while not all(job.done for job in jobs):
        for job in jobs:
            if not job.done:
                before = job.position
                job.step()
                assert job.position == before + 1 <= job.total
    for job, piece in zip(jobs, pieces, strict=True):
        assert digest(job.finish()) == digest(render(piece))


def test_a_render_refuses_to_be_driven_out_of_order() -> None:
    """finish() before the end, step() after it and a second finish() are errors that say so."""
    job = Render(compose("warm lofi", 1, 5.0, RATE))
    with pytest.raises(RuntimeError, match="finish"):
        job.finish()
    while not job.done:
        job.step()
    with pytest.raises(RuntimeError, match="finish"):
        job.step()
    job.finish()
    with pytest.raises(RuntimeError, match="once"):
        job.finish()


def test_long_pieces_open_and_close_without_the_voice() -> None:
    """An intro and an outro, once there is room for them."""
    bars = compose("warm lofi", 1, 120.0).bars
    assert not bars[0].phrases
    assert not bars[-1].phrases
    assert sum(bool(bar.phrases) for bar in bars) >= (len(bars) - 5) // 2


def test_rendering_is_faster_than_real_time_by_far() -> None:
    """Twenty times is promised; the best of three absorbs a busy machine."""
    piece = compose("warm lofi", 1, 20.0)
    best = min(_seconds(piece) for _ in range(3))
    assert best < 20.0 / 20.0


def _seconds(piece: Piece) -> float:
    begin = time.process_time()
    render(piece)
    return time.process_time() - begin
