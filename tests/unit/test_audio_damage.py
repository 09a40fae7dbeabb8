"""Files that were cut off or damaged are refused with the reason, and what is negligible is forgiven."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from tests import media

from soundfleet_schemas import DEFAULT_LIMITS, ErrorCode, Limits, SoundfleetError
from soundfleet_worker.audio import headers
from soundfleet_worker.audio.decode import decode
from soundfleet_worker.audio.levels import snr_db
from soundfleet_worker.audio.npy import partial

RATE = 48_000
STATED = ["wav8", "wav16", "wav24", "wavfloat", "flac16", "flac24", "mp3", "mp3vbr", "m4afast", "webm"]
"""Formats whose beginning states the length of the whole."""
TYPED = {ErrorCode.AUDIO_CORRUPT, ErrorCode.AUDIO_EMPTY, ErrorCode.UNSUPPORTED_FORMAT, ErrorCode.AUDIO_TOO_LONG}


def damage(path: Path, limits: Limits = DEFAULT_LIMITS) -> SoundfleetError:
    """The error of decoding, which must not leave a file."""
    destination = path.with_name("decoded.npy")
    with pytest.raises(SoundfleetError) as caught:
        decode(path, destination, RATE, limits)
    assert not destination.exists()
    assert not partial(destination).exists()
    return caught.value


@pytest.mark.parametrize("kind", STATED)
@pytest.mark.parametrize("share", [0.3, 0.85])
def test_a_cut_off_file_is_corrupt_and_both_lengths_are_named(tmp_path: Path, kind: str, share: float) -> None:
    """The header's length, and what there was."""
    path = media.truncate(media.make(tmp_path, kind, media.music(2.0, RATE), RATE), share)
    error = damage(path)
    assert error.code is ErrorCode.AUDIO_CORRUPT
    stated, found = (float(number) for number in re.findall(r"(\d+\.\d+) s", error.info.message))
    assert stated == pytest.approx(2.0, abs=0.05)
    assert found == pytest.approx(2.0 * share, abs=0.4)


@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_an_ogg_that_ends_within_a_page_is_corrupt(tmp_path: Path, kind: str) -> None:
    """Its header states no length, but each page does."""
    path = media.truncate(media.make(tmp_path, kind, media.music(3.0, RATE), RATE), 0.97)
    error = damage(path)
    assert error.code is ErrorCode.AUDIO_CORRUPT
    assert "cut off" in str(error)


@pytest.mark.parametrize("kind", ["mp3bare", "aac", "webmlive"])
def test_a_file_that_states_no_length_is_taken_as_it_is(tmp_path: Path, kind: str) -> None:
    """There is nothing to hold it against."""
    path = media.truncate(media.make(tmp_path, kind, media.music(2.0, RATE), RATE), 0.5)
    assert decode(path, tmp_path / "decoded.npy", RATE, DEFAULT_LIMITS).duration_sec == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize(("low", "high"), [("mp3bare", "mp3bare320"), ("aac", "aac")])
def test_a_bit_rate_that_changes_accuses_nobody(tmp_path: Path, low: str, high: str) -> None:
    """A low one at the start makes FFmpeg guess a length that is far too long."""
    quiet = media.write(tmp_path / "one", np.zeros((2, RATE), np.float32), RATE, low).read_bytes()
    path = tmp_path / "two"
    path.write_bytes(quiet + media.write(path, media.noise(3.0, RATE), RATE, high).read_bytes())
    info = decode(path, tmp_path / "decoded.npy", RATE, DEFAULT_LIMITS)
    assert info.duration_sec == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize(("kind", "share"), [("flac16", 0.0001), ("alac", 0.001), ("m4afast", 0.002), ("mp3", 0.1)])
def test_a_file_with_many_bad_frames_is_corrupt(tmp_path: Path, kind: str, share: float) -> None:
    """FLAC's checksums find every bit; lossy codecs notice what breaks their syntax."""
    path = media.flip_bits(media.make(tmp_path, kind, media.music(3.0, RATE), RATE), share)
    assert damage(path).code is ErrorCode.AUDIO_CORRUPT


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_one_wrong_bit_of_a_flac_is_noticed(tmp_path: Path, place: float) -> None:
    """Its frames carry checksums, which FFmpeg looks at only when it is told to."""
    path = media.make(tmp_path, "flac16", media.music(2.0), 44_100)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0x10
    path.write_bytes(data)
    assert damage(path).code is ErrorCode.AUDIO_CORRUPT


def test_one_bad_frame_of_a_song_is_forgiven_and_the_rest_stays_in_time(tmp_path: Path) -> None:
    """21 ms of an AAC file: its hole is filled with silence."""
    original = media.music(4.0, RATE)
    path = media.make(tmp_path, "m4a", original, RATE)
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + len(data) // 2
    data[begin : begin + 300] = b"\xff" * 300
    path.write_bytes(data)
    info = decode(path, tmp_path / "decoded.npy", RATE, DEFAULT_LIMITS)
    audio = np.load(tmp_path / "decoded.npy")
    assert info.samples == original.shape[1]
    assert snr_db(original[:, : RATE + RATE // 2], audio[:, : RATE + RATE // 2]) > 15.0
    assert snr_db(original[:, -RATE:], audio[:, -RATE:]) > 15.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound_are_corrupt(tmp_path: Path, bad: float) -> None:
    """One NaN would silence a whole song in a model."""
    audio = media.sine(0.5, RATE)
    audio[1, 20_000] = bad
    error = damage(media.make(tmp_path, "wavfloat", audio, RATE))
    assert error.code is ErrorCode.AUDIO_CORRUPT
    assert "at 0.42 s" in str(error)


def test_a_double_that_float_cannot_hold_is_corrupt(tmp_path: Path) -> None:
    """It becomes infinite on the way."""
    frames = np.full(8_000, 1e300).astype("<f8").tobytes()
    path = tmp_path / "huge.wav"
    path.write_bytes(media.wav_bytes(frames, 8_000, 1, 64, tag=3))
    assert damage(path).code is ErrorCode.AUDIO_CORRUPT


def test_a_stream_that_changes_its_rate_is_refused(tmp_path: Path) -> None:
    """Two mp3 glued together, and two ogg, which FFmpeg itself refuses."""
    for kind in ("mp3bare", "ogg"):
        one = media.make(tmp_path, kind, media.music(0.5, 44_100), 44_100, name="one")
        two = media.make(tmp_path, kind, media.music(0.5, 32_000), 32_000, name="two")
        path = tmp_path / "glued"
        path.write_bytes(one.read_bytes() + two.read_bytes())
        error = damage(path)
        assert error.code is ErrorCode.UNSUPPORTED_FORMAT
        assert ("stream changes" if kind == "mp3bare" else "after 0.5 s") in str(error)


def test_no_damage_gives_anything_but_audio_or_a_typed_error(tmp_path: Path) -> None:
    """A few hundred random files: cut, flipped, or both."""
    outcomes: set[str] = set()
    limits = Limits(max_audio_sec=5.0)
    for kind in ("wav16", "wavfloat", "flac16", "alac", "mp3", "m4a", "aac", "ogg", "opus", "webm"):
        whole = media.make(tmp_path, kind, media.music(0.4, RATE), RATE).read_bytes()
        path = tmp_path / "damaged"
        for seed in range(30):
            generator = np.random.default_rng(seed)
            path.write_bytes(whole)
            media.flip_bits(path, share=10.0 ** generator.uniform(-4, -1), start=generator.uniform(0, 0.9), seed=seed)
            if seed % 3 == 0:
                media.truncate(path, generator.uniform(0.01, 1.0))
            try:
                decode(path, tmp_path / "decoded.npy", RATE, limits)
            except SoundfleetError as error:
                assert error.code in TYPED, error  # noqa: PT017 - both outcomes are right
                outcomes.add(error.code)
            else:
                outcomes.add("decoded")
                audio = np.load(tmp_path / "decoded.npy")
                assert np.isfinite(audio).all()
    assert {"decoded", ErrorCode.AUDIO_CORRUPT} <= outcomes


@pytest.mark.parametrize(
    ("claimed", "stated"), [(None, 1.0), (64_000, 4.0), (0, None), (0xFFFF_FFFF, None), (0x7FFF_FFFF, None)]
)
def test_a_wav_states_what_its_data_chunk_claims(tmp_path: Path, claimed: int | None, stated: float | None) -> None:
    """Programs that write into pipes leave 0 or an impossible size: then it states nothing."""
    path = tmp_path / "some.wav"
    path.write_bytes(media.wav_bytes(bytes(16_000), 8_000, 1, 16, claimed_bytes=claimed))
    with path.open("rb") as file:
        assert headers.wav_stated_sec(file.fileno(), path.stat().st_size) == stated


def test_chunks_before_the_data_of_a_wav_are_stepped_over(tmp_path: Path) -> None:
    """Also one of odd length, which is padded; a chunk that claims the rest of the file ends the search."""
    whole = media.wav_bytes(bytes(16_000), 8_000, 1, 16)
    path = tmp_path / "some.wav"
    for chunk, stated in ((b"junk" + struct.pack("<I", 3) + b"abc\0", 1.0), (b"junk\xff\xff\xff\xff", None)):
        path.write_bytes(whole[:12] + chunk + whole[12:])
        with path.open("rb") as file:
            assert headers.wav_stated_sec(file.fileno(), path.stat().st_size) == stated
