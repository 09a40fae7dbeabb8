"""Every accepted file becomes stereo float32: exact length, in time with its original, at the rate that was asked."""

from __future__ import annotations

import itertools
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from tests import media

from soundfleet_schemas import DEFAULT_LIMITS, ErrorCode, Limits, SoundfleetError
from soundfleet_worker.audio.channels import downmix
from soundfleet_worker.audio.decode import decode
from soundfleet_worker.audio.info import AudioInfo
from soundfleet_worker.audio.levels import snr_db

LOSSLESS = {
    "wav8": 20.0, "wav16": 70.0, "wav24": 115.0, "wav32": 115.0, "wavfloat": math.inf, "wavdouble": math.inf,
    "flac16": 70.0, "flac24": 115.0, "alac": 70.0,
}  # fmt: skip
"""The least SNR in dB that the sample format leaves."""
LOSSY = {"mp3": 0, "mp3vbr": 0, "m4a": 0, "m4afast": 0, "ogg": 52, "opus": 0, "webm": 0, "webmlive": 0}
"""Samples that come after the original's end. FFmpeg's vorbis encoder does not say where the music ends."""
UNSTATED_DELAY = {"mp3bare": 1_105, "aac": 1_024, "m4afrag": 1_024}
"""Files that do not tell their encoder's delay: it cannot be taken off."""


def decoded(path: Path, rate: int, limits: Limits = DEFAULT_LIMITS) -> tuple[AudioInfo, media.Signal]:
    destination = path.with_name("decoded.npy")
    info = decode(path, destination, rate, limits)
    array = np.load(destination, mmap_mode="r", allow_pickle=False)
    assert isinstance(array, np.memmap)
    assert array.flags.c_contiguous
    assert (array.dtype, array.shape) == (np.float32, (2, info.samples))
    return info, np.array(array)


def lag(reference: media.Signal, other: media.Signal) -> int:
    """Samples by which ``other`` is late."""
    size = reference.shape[1] + other.shape[1]
    spectrum = np.fft.rfft(reference[0], size).conj() * np.fft.rfft(other[0], size)
    best = int(np.argmax(np.fft.irfft(spectrum, size)))
    return best if best < size // 2 else best - size


@pytest.mark.parametrize(("kind", "least"), LOSSLESS.items())
def test_lossless_files_come_back_sample_by_sample(tmp_path: Path, kind: str, least: float) -> None:
    """The only difference is the rounding of the file's own sample format."""
    original = media.music(1.3)
    info, audio = decoded(media.make(tmp_path, kind, original), 44_100)
    assert audio.shape == original.shape
    assert snr_db(original, audio) >= least
    assert info.duration_sec == original.shape[1] / 44_100


@pytest.mark.parametrize(("kind", "extra"), LOSSY.items())
def test_lossy_files_come_back_in_time(tmp_path: Path, kind: str, extra: int) -> None:
    """The encoder's delay is off the start and its padding off the end."""
    rate = 48_000 if kind.startswith(("opus", "webm")) else 44_100
    original = media.music(3.0, rate)
    _, audio = decoded(media.make(tmp_path, kind, original, rate), rate)
    assert audio.shape[1] == original.shape[1] + extra
    assert lag(original, audio) == 0
    assert snr_db(original, audio[:, : original.shape[1]]) > 20.0


@pytest.mark.parametrize(("kind", "delay"), UNSTATED_DELAY.items())
def test_files_that_hide_their_delay_are_late_by_exactly_that(tmp_path: Path, kind: str, delay: int) -> None:
    """Known, and kept known."""
    original = media.music(1.0)
    _, audio = decoded(media.make(tmp_path, kind, original), 44_100)
    assert lag(original, audio) == delay


@pytest.mark.parametrize("whole", [True, False])
def test_a_cover_and_tags_do_not_shift_an_mp3(tmp_path: Path, whole: bool) -> None:
    """ID3v2 with a picture before the music, broken or not; APEv2 and ID3v1 behind it."""
    original = media.music(1.0)
    cover = media.picture(tmp_path / "cover.png").read_bytes() if whole else None
    path = media.with_cover(media.make(tmp_path, "mp3", original), cover)
    ape = b"APETAGEX" + struct.pack("<IIII", 2_000, 500, 0, 0) + bytes(8) + b"Artist\0" * 60
    path.write_bytes(path.read_bytes() + ape + b"TAG" + b"Song".ljust(125, b"\0"))
    _, audio = decoded(path, 44_100)
    assert audio.shape == original.shape
    assert lag(original, audio) == 0


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_the_sound_of_a_film_is_taken(tmp_path: Path, container: str) -> None:
    """Its pictures last longer and are not even decoded."""
    original = media.music(2.0, 48_000)
    info, audio = decoded(media.film(tmp_path / "film", original, 48_000, container), 48_000)
    assert info.duration_sec == pytest.approx(2.0, abs=0.01)
    assert lag(original, audio) == 0


def test_an_mp3_that_was_cut_out_of_another_is_taken(tmp_path: Path) -> None:
    """Its first frames refer to bits that are gone, and no header says how long it is."""
    path = media.make(tmp_path, "mp3bare", media.music(3.0))
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 3 :])
    assert decoded(path, 44_100)[0].duration_sec == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("rate", "target"), list(itertools.product((8_000, 22_050, 48_000, 96_000), (44_100, 48_000))))
def test_resampling_keeps_pitch_time_and_length(tmp_path: Path, rate: int, target: int) -> None:
    """A tone at another rate is the tone that is made at that rate; only the borders ring."""
    samples = rate + 7
    tone = media.sine(samples / rate, rate, hertz=440)
    info, audio = decoded(media.make(tmp_path, "wavfloat", tone, rate), target)
    assert info.samples == round(samples * target / rate)
    assert (info.sample_rate, info.duration_sec) == (rate, samples / rate)
    wanted = media.sine(2.0, target, hertz=440)[:, : info.samples]
    inside = slice(target // 10, -target // 10)
    assert snr_db(wanted[:, inside], audio[:, inside]) > 100.0


@pytest.mark.parametrize("samples", [4_411, 5_000, 65_535, 65_536, 65_537, 70_001])
def test_the_resampled_length_is_rounded_from_any_length(tmp_path: Path, samples: int) -> None:
    """Around the sizes at which chunks are cut."""
    audio = media.noise(2.0)[:, :samples]
    info, _ = decoded(media.make(tmp_path, "wavfloat", audio), 48_000)
    assert info.samples == round(samples * 48_000 / 44_100)


@pytest.mark.parametrize("kind", ["wav16", "flac16", "mp3", "m4a"])
def test_mono_is_put_on_both_sides(tmp_path: Path, kind: str) -> None:
    """At full level, resampled or not."""
    original = media.music(1.0, channels=1)
    path = media.make(tmp_path, kind, original)
    info, audio = decoded(path, 44_100)
    assert info.channels == 1
    assert np.array_equal(audio[0], audio[1])
    assert snr_db(original, audio[:1]) > 20.0
    _, resampled = decoded(path, 32_000)
    assert np.array_equal(resampled[0], resampled[1])


@pytest.mark.parametrize("kind", ["wav16", "flac16"])
def test_five_point_one_is_mixed_down_by_the_standard(tmp_path: Path, kind: str) -> None:
    """Front at full level, centre and surrounds 3 dB lower, no LFE."""
    original = media.sine(0.5, channels=6, gain=0.1)
    _, audio = decoded(media.make(tmp_path, kind, original), 44_100)
    left, right, centre, _lfe, back_left, back_right = original
    wanted = np.stack([left + np.sqrt(0.5) * (centre + back_left), right + np.sqrt(0.5) * (centre + back_right)])
    assert snr_db(wanted, audio) > 55.0


def test_channels_without_names_are_taken_in_wav_order() -> None:
    """Four nameless channels are two fronts and two backs."""
    audio = np.eye(4, dtype=np.float32)
    half = np.float32(np.sqrt(0.5))
    assert downmix(audio, ("?", "?", "?", "?")) == pytest.approx(np.array([[1, 0, half, 0], [0, 1, 0, half]]))
    assert downmix(audio, ("FC", "LFE", "SL", "FR")) == pytest.approx(np.array([[half, 0, half, 0], [half, 0, 0, 1]]))


def test_more_than_eight_channels_are_refused(tmp_path: Path) -> None:
    """No file of music has them."""
    path = tmp_path / "many.wav"
    path.write_bytes(media.wav_bytes(bytes(2 * 12 * 8_000), 8_000, 12, 16))
    with pytest.raises(SoundfleetError) as caught:
        decoded(path, 44_100)
    assert caught.value.code is ErrorCode.UNSUPPORTED_FORMAT


def test_float_samples_above_full_scale_are_kept(tmp_path: Path) -> None:
    """Headroom is what float files are for."""
    original = media.sine(0.5, gain=3.0)
    _, audio = decoded(media.make(tmp_path, "wavfloat", original), 44_100)
    assert np.array_equal(audio, original)


def test_the_length_limit_holds_for_what_is_decoded(tmp_path: Path) -> None:
    """An mp3 that states no length is stopped at the limit; the limit itself is allowed."""
    path = media.make(tmp_path, "mp3bare", media.music(2.0))
    with pytest.raises(SoundfleetError) as caught:
        decoded(path, 44_100, Limits(max_audio_sec=1.5))
    assert caught.value.code is ErrorCode.AUDIO_TOO_LONG
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    info, _ = decoded(path, 44_100, Limits(max_audio_sec=2.0))
    assert info.duration_sec > 2.0  # the encoder's padding is forgiven


def test_a_header_that_states_less_than_the_file_holds_does_not_pass_the_limit(tmp_path: Path) -> None:
    """The data chunk of a streamed WAV has no size: FFmpeg reads to the end, and the limit stops it."""
    frames = (1_000 * np.sin(np.arange(3 * 8_000))).astype("<i2").tobytes()
    path = tmp_path / "streamed.wav"
    path.write_bytes(media.wav_bytes(frames, 8_000, 1, 16, claimed_bytes=0xFFFF_FFFF))
    assert decoded(path, 8_000)[0].samples == 24_000
    with pytest.raises(SoundfleetError) as caught:
        decoded(path, 8_000, Limits(max_audio_sec=2.0))
    assert caught.value.code is ErrorCode.AUDIO_TOO_LONG


def test_audio_below_the_shortest_length_is_empty(tmp_path: Path) -> None:
    """A tenth of a second is the least that a model can work on."""
    path = media.make(tmp_path, "wav16", media.sine(0.05))
    with pytest.raises(SoundfleetError) as caught:
        decoded(path, 44_100)
    assert caught.value.code is ErrorCode.AUDIO_EMPTY
    assert "0.050 s" in str(caught.value)


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    """Resampling included."""
    path = media.make(tmp_path, "mp3", media.music(1.0))
    decode(path, tmp_path / "one.npy", 48_000, DEFAULT_LIMITS)
    decode(path, tmp_path / "two.npy", 48_000, DEFAULT_LIMITS)
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()
