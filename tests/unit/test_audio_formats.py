"""Each of the formats is decoded to the length that its own rule gives, in time, and as well as it was encoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests import media
from tests.formats import SONGS
from tests.listening import lag, snr_db, stereo

from soundfleet_schemas import DEFAULT_LIMITS, ErrorCode, SoundfleetError
from soundfleet_worker.audio.decode import decode

RATE = 44_100


@pytest.mark.parametrize("name", SONGS)
def test_a_format_is_decoded_in_full_and_in_time(tmp_path: Path, name: str) -> None:
    """The rule of its length stands beside the file's maker."""
    song = SONGS[name](tmp_path)
    decode(song.path, tmp_path / "decoded.npy", RATE, DEFAULT_LIMITS)
    audio, truth = np.load(tmp_path / "decoded.npy"), stereo(song.audio, song.rate)
    assert audio.shape == (2, round(song.held * RATE / song.rate))
    late = round(song.late * RATE / song.rate)
    if not truth.any():
        assert not audio.any()
        return
    assert lag(truth, audio) == late
    both = min(truth.shape[1], audio.shape[1] - late)
    assert snr_db(truth[:, :both], audio[:, late : late + both]) >= song.snr_db


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_an_mp4_that_ends_within_a_fragment_is_corrupt(tmp_path: Path, share: float) -> None:
    """Its index states no length, but each fragment states its size."""
    path = media.truncate(media.make(tmp_path, "m4afrag", media.music(3.0)), share)
    with pytest.raises(SoundfleetError, match="cut off") as caught:
        decode(path, tmp_path / "decoded.npy", RATE, DEFAULT_LIMITS)
    assert caught.value.code is ErrorCode.AUDIO_CORRUPT
