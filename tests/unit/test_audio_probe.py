"""What a file is, is read from its content; what is not audio of an accepted format is refused by a typed error."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from tests import media

from soundfleet_schemas import DEFAULT_LIMITS, ErrorCode, Limits, SoundfleetError
from soundfleet_worker.audio.container import content_type
from soundfleet_worker.audio.info import AudioInfo
from soundfleet_worker.audio.probe import probe

WORDS = {
    "wav16": "wav",
    "wavfloat": "wav",
    "flac24": "flac",
    "mp3": "mp3",
    "mp3vbr": "mp3",
    "mp3bare": "mp3",
    "m4a": "m4a",
    "alac": "m4a",
    "aac": "aac",
    "ogg": "ogg",
    "opus": "ogg",
    "webm": "webm",
}


def refusal(path: Path, limits: Limits = DEFAULT_LIMITS) -> SoundfleetError:
    with pytest.raises(SoundfleetError) as caught:
        probe(path, limits)
    return caught.value


@pytest.mark.parametrize(("kind", "word"), WORDS.items())
def test_every_accepted_format_is_told_from_its_content(tmp_path: Path, kind: str, word: str) -> None:
    """The name has no suffix, and the facts are right."""
    path = media.make(tmp_path, kind, media.music(1.0, 48_000), 48_000, name="upload")
    info = probe(path, DEFAULT_LIMITS)
    assert (info.format, info.sample_rate, info.channels) == (word, 48_000, 2)
    assert info.size_bytes == path.stat().st_size
    assert info.duration_sec == pytest.approx(1.0, abs=0.1)
    assert info.bitrate == pytest.approx(8 * info.size_bytes / 1.0, rel=0.1)


@pytest.mark.parametrize("name", ["song.mp3", "song.txt", "song.m3u8", "http:__example.com_song"])
def test_a_wrong_suffix_changes_nothing(tmp_path: Path, name: str) -> None:
    """A flac file is one under any name, also one that FFmpeg would take for a playlist or an address."""
    assert probe(media.make(tmp_path, "flac16", media.sine(0.5), name=name), DEFAULT_LIMITS).format == "flac"


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    """Nor is a folder a file."""
    assert refusal(tmp_path / "gone.wav").code is ErrorCode.SOURCE_NOT_FOUND
    assert refusal(tmp_path).code is ErrorCode.SOURCE_NOT_FOUND


def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    """Opening a FIFO that nobody writes to would hang a worker."""
    os.mkfifo(tmp_path / "pipe.wav")
    assert refusal(tmp_path / "pipe.wav").code is ErrorCode.SOURCE_NOT_FOUND


def test_a_file_over_the_size_limit_is_refused_with_both_numbers(tmp_path: Path) -> None:
    """The limit itself is allowed."""
    path = media.make(tmp_path, "wav16", media.sine(1.0))
    size = path.stat().st_size
    assert probe(path, Limits(max_file_bytes=size)).size_bytes == size
    error = refusal(path, Limits(max_file_bytes=size - 1))
    assert error.code is ErrorCode.FILE_TOO_LARGE
    assert str(size) in str(error)
    assert str(size - 1) in str(error)


def test_an_empty_file_and_an_audio_file_without_samples_are_empty(tmp_path: Path) -> None:
    """Zero bytes, and a proper header with nothing behind it."""
    nothing = tmp_path / "nothing.mp3"
    nothing.touch()
    assert refusal(nothing).code is ErrorCode.AUDIO_EMPTY
    assert refusal(media.empty_audio(tmp_path / "silent.wav")).code is ErrorCode.AUDIO_EMPTY


def test_text_that_is_called_mp3_is_no_audio(tmp_path: Path) -> None:
    """The suffix is not believed."""
    error = refusal(media.text_file(tmp_path / "song.mp3"))
    assert error.code is ErrorCode.UNSUPPORTED_FORMAT
    assert "one of these formats: mp3, wav, m4a, flac, ogg, opus, webm, aac." in str(error)


@pytest.mark.parametrize("name", media.PLAYLISTS)
def test_a_playlist_is_refused_although_its_target_exists(tmp_path: Path, name: str) -> None:
    """FFmpeg could follow it; here nothing but the file itself is ever opened."""
    target = media.make(tmp_path, "wav16", media.sine(0.5), name="target")
    assert refusal(media.playlist(tmp_path / name, target)).code is ErrorCode.UNSUPPORTED_FORMAT


def test_pictures_and_films_without_sound_are_refused(tmp_path: Path) -> None:
    """An image, and an MP4 that holds only video."""
    assert refusal(media.picture(tmp_path / "cover.png")).code is ErrorCode.UNSUPPORTED_FORMAT
    error = refusal(media.silent_film(tmp_path / "film.mp4"))
    assert error.code is ErrorCode.UNSUPPORTED_FORMAT
    assert "no sound" in str(error)


def test_a_format_outside_the_list_is_refused_although_ffmpeg_reads_it(tmp_path: Path) -> None:
    """AIFF as a container, AC-3 as a codec."""
    assert refusal(media.make(tmp_path, "aiff", media.sine(0.5))).code is ErrorCode.UNSUPPORTED_FORMAT
    error = refusal(media.make(tmp_path, "mkvac3", media.sine(0.5)))
    assert error.code is ErrorCode.UNSUPPORTED_FORMAT
    assert "ac3" in str(error)


def test_eleven_minutes_are_too_long_by_the_header_alone(tmp_path: Path) -> None:
    """Nothing is decoded to find it out."""
    error = refusal(media.long_file(tmp_path / "long.wav"))
    assert error.code is ErrorCode.AUDIO_TOO_LONG
    assert "660" in str(error)
    assert "600" in str(error)


@pytest.mark.parametrize(("rate", "accepted"), [(20, False), (3_999, False), (4_000, True), (8_000, True)])
def test_a_sample_rate_that_nobody_uses_is_refused(tmp_path: Path, rate: int, accepted: bool) -> None:
    """A few kB at 20 Hz would become ten minutes of audio."""
    path = tmp_path / "slow.wav"
    path.write_bytes(media.wav_bytes(bytes([128]) * 12_000, rate, 1, 8))
    if accepted:
        assert probe(path, DEFAULT_LIMITS).sample_rate == rate
        return
    error = refusal(path)
    assert error.code is ErrorCode.UNSUPPORTED_FORMAT
    assert f"{rate} samples a second" in str(error)


@pytest.mark.parametrize("kind", ["m4a", "alac", "ogg", "opus"])
def test_a_header_that_was_cut_off_is_corrupt_and_not_unsupported(tmp_path: Path, kind: str) -> None:
    """The first bytes say what it was meant to be."""
    path = media.truncate(media.make(tmp_path, kind, media.music(1.0, 48_000), 48_000), 0.05)
    assert refusal(path).code is ErrorCode.AUDIO_CORRUPT


def test_tags_in_no_known_encoding_do_not_matter(tmp_path: Path) -> None:
    """An INFO chunk with bytes that are not UTF-8."""
    chunk = b"INFOINAM" + (4).to_bytes(4, "little") + b"\xff\xfe\xe9\x00"
    frames = b"LIST" + len(chunk).to_bytes(4, "little") + chunk
    path = tmp_path / "tagged.wav"
    path.write_bytes(media.wav_bytes(bytes(44_100), 44_100, 1, 16) + frames)
    assert probe(path, DEFAULT_LIMITS).duration_sec == pytest.approx(0.5)


def test_what_was_probed_travels_as_json(tmp_path: Path) -> None:
    """It crosses a process border."""
    info = probe(media.make(tmp_path, "wav16", media.sine(0.5)), DEFAULT_LIMITS)
    assert msgspec.json.decode(msgspec.json.encode(info), type=AudioInfo) == info


def test_delivered_formats_have_their_registered_content_types() -> None:
    """What storage tells a browser."""
    assert [content_type(f) for f in ("wav", "flac", "mp3")] == ["audio/wav", "audio/flac", "audio/mpeg"]
