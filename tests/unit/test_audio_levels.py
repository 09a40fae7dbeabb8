"""Levels in decibels, and distances from a reference."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests import media

from soundfleet_worker.audio.levels import SILENCE_DBFS, Meter, exceeds_full_scale, si_sdr, snr_db
from soundfleet_worker.audio.resample import chunks


def measured(audio: media.Signal, chunk: int) -> Meter:
    meter = Meter()
    for start in range(0, audio.shape[1], chunk):
        meter.add(audio[:, start : start + chunk])
    return meter


def test_a_sine_of_half_scale_has_its_known_levels() -> None:
    """-6.02 dBFS of peak, and 3.01 dB less of RMS; any chunks give the same."""
    tone = media.sine(1.0, hertz=441.0, channels=1)
    for chunk in (1_000, 44_100, 100_000):
        meter = measured(tone, chunk)
        assert meter.peak_dbfs == pytest.approx(20 * math.log10(0.5), abs=0.01)
        assert meter.rms_dbfs == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=0.001)


def test_silence_and_nothing_have_the_lowest_level() -> None:
    """A number, because minus infinity has no JSON."""
    for meter in (Meter(), measured(np.zeros((2, 100), np.float32), 10)):
        assert (meter.peak_dbfs, meter.rms_dbfs) == (SILENCE_DBFS, SILENCE_DBFS)


def test_a_peak_below_zero_counts_as_much_as_one_above() -> None:
    """Full scale is 0 dBFS on either side."""
    audio = np.zeros((2, 100), np.float32)
    audio[1, 50] = -1.0
    assert measured(audio, 100).peak_dbfs == 0.0


@pytest.mark.parametrize("db", [-5.0, 0.0, 10.0, 30.0])
def test_si_sdr_measures_the_noise_that_was_added(db: float) -> None:
    """Signal and noise are made orthogonal, so that the ratio is exact at any gain."""
    signal, noise = media.music(2.0), media.noise(2.0, seed=5).astype(np.float64)
    noise -= signal * (np.vdot(signal, noise) / np.vdot(signal, signal))
    noise *= math.sqrt(float(np.vdot(signal, signal)) / float(np.vdot(noise, noise))) * 10 ** (-db / 20)
    for gain in (1.0, 0.01, -3.0):
        assert si_sdr(signal, gain * (signal + noise)) == pytest.approx(db, abs=1e-3)
    assert snr_db(signal, signal + noise) == pytest.approx(db, abs=1e-3)


def test_a_gain_is_distortion_to_snr_and_none_to_si_sdr() -> None:
    """That is what scale-invariant means."""
    signal = media.music(0.5)
    assert snr_db(signal, 0.5 * signal) == pytest.approx(20 * math.log10(2), abs=1e-5)
    assert si_sdr(signal, 0.5 * signal) > 100.0


def test_the_borders_are_infinite() -> None:
    """Equal, silent."""
    signal, silence = media.music(0.1), np.zeros((2, 4_410), np.float32)
    assert snr_db(signal, signal) == math.inf
    assert snr_db(silence, signal) == -math.inf
    assert si_sdr(signal, silence) == si_sdr(silence, signal) == -math.inf


@pytest.mark.parametrize("measure", [snr_db, si_sdr])
def test_arrays_of_different_shapes_are_a_mistake(measure: object) -> None:
    """Broadcasting would hide it."""
    assert callable(measure)
    with pytest.raises(ValueError, match=r"\(2, 100\) and \(1, 100\)"):
        measure(np.zeros((2, 100), np.float32), np.zeros((1, 100), np.float32))


@pytest.mark.parametrize("place", [0, 65_535, 65_536, 99_999])
def test_one_sample_beyond_full_scale_is_found(tmp_path: Path, place: int) -> None:
    """In either direction, in any chunk of a memory-mapped file; full scale itself is none."""
    audio = np.zeros((2, 100_000), dtype=np.float32)
    audio[0, place] = 1.0
    audio[1, place] = -1.0
    assert not exceeds_full_scale(chunks(audio))
    audio[1, place] = np.nextafter(np.float32(-1.0), np.float32(-2.0))
    np.save(tmp_path / "audio.npy", audio)
    assert exceeds_full_scale(chunks(np.load(tmp_path / "audio.npy", mmap_mode="r")))
