"""An mp3 lasts as long as its first frame states, whatever tags follow the music and whatever is broken in it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from tests import media

from soundfleet_schemas import DEFAULT_LIMITS, ErrorCode, OutputFormat, SoundfleetError
from soundfleet_worker.audio.decode import decode
from soundfleet_worker.audio.encode import encode
from soundfleet_worker.audio.levels import snr_db
from soundfleet_worker.audio.mp3 import Stated, frame_at, stated_by_mp3
from soundfleet_worker.audio.probe import probe

RATE = 44_100
SAMPLES = 5 * RATE + 123
NOISE = np.random.default_rng(7).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
TAILS = {
    "APEv2": media.ape_tag(100_000),
    "a small APEv2": media.ape_tag(300),
    "APEv2 and ID3v1": media.ape_tag(50_000) + media.ID3V1_TAG,
    "Lyrics3v2 and ID3v1": media.lyrics3_tag(20_000) + media.ID3V1_TAG,
    "ID3v1": media.ID3V1_TAG,
    "zeros": bytes(300_000),
    "zeros and ID3v1": bytes(20_000) + media.ID3V1_TAG,
    "0xFF": b"\xff" * 20_000,
    "noise": NOISE,
    "one lonely frame header": bytes(500) + b"\xff\xfb\x90\x44" + bytes(20_000),
}


@pytest.fixture(scope="module")
def song() -> media.Signal:
    """Five seconds and a bit."""
    return media.music(6.0)[:, :SAMPLES]


def decoded(path: Path) -> media.Signal:
    info = decode(path, path.with_name("decoded.npy"), RATE, DEFAULT_LIMITS)
    audio = np.array(np.load(path.with_name("decoded.npy")))
    assert audio.shape == (2, info.samples)
    return audio


def stated(path: Path) -> Stated | None:
    with path.open("rb") as file:
        return stated_by_mp3(file.fileno(), path.stat().st_size)


@pytest.mark.parametrize("kind", ["mp3", "mp3vbr"])
@pytest.mark.parametrize("cover", [False, True])
def test_what_follows_the_music_changes_no_sample(tmp_path: Path, song: media.Signal, kind: str, cover: bool) -> None:
    """Every tail gives exactly the samples of the file without it, as many as were encoded, and the same length."""
    path = media.make(tmp_path, kind, song)
    if cover:
        media.with_cover(path)
    clean, plain = path.read_bytes(), decoded(path)
    assert plain.shape[1] == SAMPLES
    for name, tail in TAILS.items():
        path.write_bytes(clean + tail)
        assert np.array_equal(decoded(path), plain), name
        assert probe(path, DEFAULT_LIMITS).duration_sec == SAMPLES / RATE, name
        facts = stated(path)
        assert facts is not None
        assert (facts.samples, facts.end, facts.gapless) == (SAMPLES, len(clean), True), name


def test_a_delivered_mp3_may_be_tagged_and_sent_in_again(tmp_path: Path, song: media.Signal) -> None:
    """At a low rate too, where frames are short."""
    for rate in (16_000, 44_100):
        path = tmp_path / f"{rate}.mp3"
        encode(song, path, rate, OutputFormat.mp3, bitrate_kbps=64)
        path.write_bytes(path.read_bytes() + media.ape_tag(30_000))
        info = decode(path, tmp_path / "decoded.npy", rate, DEFAULT_LIMITS)
        assert info.samples == SAMPLES


def test_a_second_song_behind_the_first_is_heard(tmp_path: Path, song: media.Signal) -> None:
    """The first one's header counts only its own frames; nothing of the second is taken for a tag."""
    one, two = media.make(tmp_path, "mp3", song), media.make(tmp_path, "mp3", song, name="two.mp3")
    path = tmp_path / "both.mp3"
    for between in (media.ape_tag(40_000), media.ID3V1_TAG, b""):
        path.write_bytes(one.read_bytes() + between + two.read_bytes())
        facts = stated(path)
        assert facts is not None
        assert (facts.end, facts.gapless) == (path.stat().st_size, False)
    assert decoded(path).shape[1] == pytest.approx(2 * SAMPLES, abs=4 * 1_152)


def test_a_size_that_is_not_true_hides_no_music(tmp_path: Path, song: media.Signal) -> None:
    """Frames behind the stated end are decoded, as far as they are counted."""
    path = media.make(tmp_path, "mp3", song)
    data = bytearray(path.read_bytes())
    at = data.index(b"Info") + 12
    for wrong in (1, 700, len(data) // 2, len(data) - 1_000):
        data[at : at + 4] = wrong.to_bytes(4, "big")
        path.write_bytes(data)
        assert SAMPLES <= decoded(path).shape[1] <= SAMPLES + 2_304


def test_a_cut_off_mp3_with_a_tag_behind_it_is_corrupt(tmp_path: Path, song: media.Signal) -> None:
    """The tag's bytes do not stand in for the music's."""
    path = media.truncate(media.make(tmp_path, "mp3", song), 0.7)
    path.write_bytes(path.read_bytes() + media.ape_tag(100_000))
    with pytest.raises(SoundfleetError, match=r"states 5\.00 s") as caught:
        decoded(path)
    assert caught.value.code is ErrorCode.AUDIO_CORRUPT


@pytest.mark.parametrize("kind", ["mp3", "mp3vbr"])
def test_a_hole_in_an_mp3_is_corrupt_or_keeps_its_place(tmp_path: Path, song: media.Signal, kind: str) -> None:
    """Zeros of any length anywhere: what comes after a forgiven hole is, sample by sample, where it was."""
    path = media.make(tmp_path, kind, song)
    clean, plain = path.read_bytes(), decoded(path)
    outcomes = []
    for length, place in itertools.product((50, 700, 1_300, 5_000), (0.3, 0.31, 0.5, 0.62, 0.7)):
        data, begin = bytearray(clean), int(place * len(clean))
        data[begin : begin + length] = bytes(length)
        path.write_bytes(data)
        try:
            audio = decoded(path)
        except SoundfleetError as error:
            assert error.code is ErrorCode.AUDIO_CORRUPT  # noqa: PT017 - both outcomes are right
            outcomes.append((length, False))
            continue
        outcomes.append((length, True))
        assert audio.shape == plain.shape
        assert np.array_equal(audio[:, -RATE:], plain[:, -RATE:])
        assert np.array_equal(audio[:, :RATE], plain[:, :RATE])
    assert all(not forgiven for length, forgiven in outcomes if length == 5_000), "0.2 s"
    assert all(forgiven for length, forgiven in outcomes if length == 50), "two frames at most"


def test_bytes_that_were_taken_out_are_missed(tmp_path: Path, song: media.Signal) -> None:
    """Four frames less than the header counts are more than is forgiven; one is."""
    path = media.make(tmp_path, "mp3", song)
    data = path.read_bytes()
    begin = len(data) // 2
    path.write_bytes(data[:begin] + data[begin + 4 * 627 :])
    with pytest.raises(SoundfleetError) as caught:
        decoded(path)
    assert caught.value.code is ErrorCode.AUDIO_CORRUPT
    path.write_bytes(data[:-400])
    assert decoded(path).shape[1] == SAMPLES
    assert snr_db(song[:, :-RATE], decoded(path)[:, :-RATE]) > 15.0


def test_an_mp3_states_its_length_by_a_header_alone(tmp_path: Path) -> None:
    """Behind tags of any number, and not by the letters of a title."""
    original = media.music(0.5)
    with_header = media.with_cover(media.with_cover(media.make(tmp_path, "mp3", original)))
    without = media.with_cover(media.make(tmp_path, "mp3bare", original))
    without.write_bytes(without.read_bytes().replace(b"Song", b"Xing"))
    assert stated(with_header) is not None
    assert stated(without) is None
    assert stated(media.text_file(tmp_path / "text")) is None


def test_a_vbri_header_counts_frames_and_tells_no_delay(tmp_path: Path) -> None:
    """That of Fraunhofer's encoder: its length is whole frames."""
    bare = media.make(tmp_path, "mp3bare", media.music(1.0)).read_bytes()
    frame = frame_at(bare)
    assert frame is not None
    frames = len(bare) // frame.size
    vbri = b"VBRI" + (1).to_bytes(2, "big") + bytes(4) + (len(bare) + frame.size).to_bytes(4, "big")
    first = (bare[:4] + bytes(32) + vbri + frames.to_bytes(4, "big")).ljust(frame.size, b"\0")
    path = tmp_path / "vbri.mp3"
    path.write_bytes(first + bare + media.ape_tag(20_000))
    facts = stated(path)
    assert facts is not None
    assert (facts.samples, facts.gapless) == (frames * 1_152, False)
    assert facts.end == pytest.approx(len(first + bare), abs=1)
    assert decoded(path).shape[1] == pytest.approx(frames * 1_152, abs=2 * 1_152)


def test_a_tail_of_nothing_but_frame_headers_is_given_up_soon(tmp_path: Path, song: media.Signal) -> None:
    """Made to keep the search busy: it is left to FFmpeg, and the song is decoded."""
    path = media.make(tmp_path, "mp3", song)
    path.write_bytes(path.read_bytes() + b"\xff\xfb\x00" * 1_000_000)
    facts = stated(path)
    assert facts is not None
    assert not facts.gapless
    assert decoded(path).shape[1] >= SAMPLES


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("fffb9044", (44_100, 1_152, 417, 32)),
        ("fffb9244", (44_100, 1_152, 418, 32)),
        ("fffae4c4", (48_000, 1_152, 960, 17)),
        ("fff38444", (24_000, 576, 192, 17)),
        ("ffe348c4", (8_000, 576, 288, 9)),
        ("ffeb9044", None),  # a reserved version
        ("fffd9044", None),  # layer II
        ("fffb0044", None),  # a free bit rate
        ("fffbf044", None),
        ("fffb9c44", None),  # a reserved sample rate
        ("fffb90", None),
    ],
)
def test_a_frame_header_is_read_as_the_standard_says(header: str, expected: tuple[int, ...] | None) -> None:
    """Sample rate, samples, bytes and side information of ISO 11172-3 and 13818-3."""
    assert frame_at(bytes.fromhex(header)) == expected


def test_random_heads_are_no_mp3_and_do_no_harm(tmp_path: Path) -> None:
    """Headers are read before FFmpeg judges the file."""
    path = tmp_path / "random"
    for seed in range(200):
        generator = np.random.default_rng(seed)
        head = b"\xff\xfb\x90\x44" + bytes(32) + b"Xing" + bytes(3) + generator.bytes(1) + generator.bytes(200)
        path.write_bytes(head[: generator.integers(1, len(head))])
        facts = stated(path)
        assert facts is None or 0 < facts.end <= os.path.getsize(path)
