"""Stems at the source's own rate: in time, as long as the source, and refused where the format cannot hold it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the worker extra")
from tests import media

from soundfleet_schemas import Limits, OutputFormat, SoundfleetError, StemSeparationOptions
from soundfleet_worker.audio.decode import decode
from soundfleet_worker.audio.encode import Rate, encode
from soundfleet_worker.audio.levels import snr_db
from soundfleet_worker.audio.rates import check_rate
from soundfleet_worker.audio.resample import resampled

MODEL_RATE = 44_100
LIMITS = Limits(min_audio_sec=0.0)


@pytest.mark.parametrize("rate", [8_000, 22_050, 32_000, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("samples", [1_000, 65_536, 100_003])
def test_it_is_as_long_as_was_asked_for(rate: int, samples: int) -> None:
    """To the sample, whichever way the roundings fell."""
    there = round(samples * MODEL_RATE / rate)
    audio = media.noise(there / MODEL_RATE)[:, :there]
    blocks = list(resampled(audio, MODEL_RATE, rate, samples))
    assert sum(block.shape[1] for block in blocks) == samples
    assert all(block.dtype == np.float32 and block.shape[0] == 2 for block in blocks)


@pytest.mark.parametrize("rate", [48_000, 96_000])
def test_there_and_back_it_is_in_time(tmp_path: Path, rate: int) -> None:
    """What a file was, decoded at the model's rate and delivered at its own: the same, to more than 80 dB."""
    audio = sum(media.sine(2.003, rate, hertz=hertz, gain=0.1) for hertz in (110.0, 997.0, 5_003.0, 9_001.0))
    source = media.write(tmp_path / "in.wav", audio, rate, "wavfloat")
    info = decode(source, tmp_path / "in.npy", MODEL_RATE, LIMITS)
    stem = np.load(tmp_path / "in.npy")
    to = Rate(rate, round(info.duration_sec * rate))
    done = encode(stem, tmp_path / "out.flac", MODEL_RATE, OutputFormat.flac, to=to)
    back = decode(tmp_path / "out.flac", tmp_path / "out.npy", rate, LIMITS)
    assert done.samples == back.samples == audio.shape[1]
    assert back.sample_rate == done.waveform.sample_rate == rate
    inside = slice(rate // 10, -rate // 10)
    assert snr_db(audio[:, inside], np.load(tmp_path / "out.npy")[:, inside]) > 80


def test_the_same_rate_is_not_resampled(tmp_path: Path) -> None:
    """The bytes are those of a file that was not asked to keep its rate."""
    audio = media.music(1.0)
    plain = encode(audio, tmp_path / "a.flac", MODEL_RATE, OutputFormat.flac)
    kept = encode(audio, tmp_path / "b.flac", MODEL_RATE, OutputFormat.flac, to=Rate(MODEL_RATE, audio.shape[1]))
    assert plain.sha256 == kept.sha256


@pytest.mark.parametrize(
    ("options", "rate", "accepted"),
    [
        ({"output_format": "mp3"}, 96_000, True),
        ({"output_format": "mp3", "keep_sample_rate": True}, 96_000, False),
        ({"output_format": "mp3", "keep_sample_rate": True}, 48_000, True),
        ({"output_format": "mp3", "keep_sample_rate": True}, 44_056, False),
        ({"output_format": "mp3", "keep_sample_rate": True, "bitrate_kbps": 320}, 22_050, False),
        ({"output_format": "mp3", "keep_sample_rate": True, "bitrate_kbps": 160}, 22_050, True),
        ({"output_format": "mp3", "keep_sample_rate": True, "bitrate_kbps": 80}, 8_000, False),
        ({"output_format": "flac", "keep_sample_rate": True}, 192_000, True),
        ({"output_format": "flac", "keep_sample_rate": True}, 700_000, False),
        ({"output_format": "wav", "keep_sample_rate": True}, 700_000, True),
        ({"output_format": "wav", "keep_sample_rate": True}, 4_000_000, False),
    ],
)
def test_a_rate_that_the_format_cannot_hold_is_refused(options: dict[str, object], rate: int, accepted: bool) -> None:
    """Before the device is touched, with what to do."""
    asked = StemSeparationOptions(**options)  # type: ignore[arg-type]
    if accepted:
        check_rate(asked, rate)
        return
    with pytest.raises(SoundfleetError, match=r"Leave keep_sample_rate") as caught:
        check_rate(asked, rate)
    assert caught.value.code == "INVALID_OPTION"
