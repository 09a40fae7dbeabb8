"""Waveforms for players: every sample is in one of at most two thousand points."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest

pytest.importorskip("av", reason="needs the worker extra")
from tests import media

from soundfleet_schemas import encode
from soundfleet_worker.audio.peaks import POINTS, Peaks


def points(audio: np.ndarray, rate: int = 44_100, cuts: tuple[int, ...] = ()) -> np.ndarray:
    """The (minimum, maximum) pairs of audio that comes in chunks."""
    peaks = Peaks(audio.shape[1], rate)
    for start, end in pairwise((0, *cuts, audio.shape[1])):
        peaks.add(audio[:, start:end])
    return np.array(peaks.waveform().data).reshape(-1, 2)


@pytest.mark.parametrize("samples", [1, 2, 1_999, 2_000, 2_001, 44_100, 1_234_567])
def test_points_are_as_many_as_a_screen_shows_whatever_the_length(samples: int) -> None:
    """Half of it at least, for anything longer."""
    audio = media.noise(samples / 44_100)[:, :samples]
    peaks = Peaks(audio.shape[1], 44_100)
    peaks.add(audio)
    waveform = peaks.waveform()
    assert min(samples, POINTS / 2) <= waveform.length <= POINTS
    assert len(waveform.data) == 2 * waveform.length
    assert (waveform.length - 1) * waveform.samples_per_pixel < samples <= waveform.length * waveform.samples_per_pixel


def test_a_point_holds_the_extremes_of_its_samples() -> None:
    """Of both channels: what one has alone is seen."""
    audio = media.music(3.0)
    peaks = points(audio)
    size = -(-audio.shape[1] // POINTS)
    for index in (0, 7, len(peaks) - 1):
        part = audio[:, index * size : (index + 1) * size]
        assert peaks[index].tolist() == [round(float(part.min()) * 32_768), round(float(part.max()) * 32_768)]
    left_only = np.stack([media.sine(1.0)[0], np.zeros(44_100, dtype=np.float32)])
    assert points(left_only)[:, 1].max() > 16_000


def test_chunks_change_nothing() -> None:
    """Wherever they are cut, also in the middle of a point, and when one is empty."""
    audio = media.music(2.0)
    whole = points(audio)
    for cuts in ((1,), (44, 45, 46), (45, 45, 90), (65_536,), (10_000, 10_001, 50_000)):
        assert np.array_equal(points(audio, cuts=cuts), whole)


def test_it_is_a_document_that_players_read() -> None:
    """The fields of audiowaveform's format, version 2, as plain integers within 16 bits."""
    peaks = Peaks(4, 48_000)
    peaks.add(np.array([[0.0, 0.5, -2.0, 2.0]], dtype=np.float32))
    assert msgspec.json.decode(encode(peaks.waveform())) == {
        "version": 2,
        "channels": 1,
        "sample_rate": 48_000,
        "samples_per_pixel": 1,
        "bits": 16,
        "length": 4,
        "data": [0, 0, 16_384, 16_384, -32_768, -32_768, 32_767, 32_767],
    }
