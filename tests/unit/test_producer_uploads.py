"""What may be uploaded: paths, bytes and file objects, each read once, or refused with a sentence."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from soundfleet_producer import uploads
from soundfleet_producer.uploads import SPOOL_BYTES, opened
from soundfleet_schemas import ErrorCode, LocalFile, SoundfleetError

MUSIC = b"the sound of music"
DIGEST = hashlib.sha256(MUSIC).hexdigest()


class Pipe(io.RawIOBase):
    """A stream that can be read once, a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002 - a stream may give less than it is asked for
        part, self.left = self.left[:7], self.left[7:]
        return part


class Broken(Pipe):
    """A connection that breaks."""

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002 - as above
        raise ConnectionResetError(errno.ECONNRESET, "reset by peer")


def refusal(source: Any, max_bytes: int | None = None) -> SoundfleetError:
    """The error of an upload, told in one line."""
    with pytest.raises(SoundfleetError) as caught, opened(source, max_bytes):
        pass
    assert "\n" not in str(caught.value)
    assert caught.value.info.action
    return caught.value


@pytest.mark.parametrize(
    "kind", ["text", "path", "local", "address", "bytes", "bytearray", "memoryview", "file", "pipe"]
)
def test_every_kind_of_upload_gives_the_same_content(tmp_path: Path, kind: str) -> None:
    """The bytes decide; where they came from does not show."""
    path = tmp_path / "song.WAV"
    path.write_bytes(MUSIC)
    sources: dict[str, Any] = {
        "text": str(path), "path": path, "local": LocalFile(path=str(path)), "address": path.as_uri(),
        "bytes": MUSIC, "bytearray": bytearray(MUSIC), "memoryview": memoryview(b"." + MUSIC)[1:],
        "file": io.BytesIO(MUSIC), "pipe": Pipe(MUSIC),
    }  # fmt: skip
    with opened(sources[kind], len(MUSIC), "song.WAV") as content:
        assert content.file.read() == MUSIC
        assert (content.sha256, content.size_bytes, content.name) == (DIGEST, len(MUSIC), "song.WAV")
        assert content.key == f"uploads/{DIGEST}.wav"
        assert content.unchanged()


@pytest.mark.parametrize(
    ("filename", "key", "name"),
    [
        (None, f"uploads/{DIGEST}", ""),
        ("/home/me/a.mp3", f"uploads/{DIGEST}.mp3", "a.mp3"),
        ("a.", f"uploads/{DIGEST}", "a."),
        ("a.not a suffix", f"uploads/{DIGEST}", "a.not a suffix"),
        ("a.flac\n", f"uploads/{DIGEST}", "a.flac\n"),
        ("\udcff.ogg", f"uploads/{DIGEST}.ogg", "?.ogg"),
        ("x" * 300, f"uploads/{DIGEST}", "x" * 255),
    ],
)
def test_a_name_that_is_given_is_shown_and_its_suffix_kept(filename: str | None, key: str, name: str) -> None:
    """Only its last part, as text, and a suffix only where it is one."""
    with opened(MUSIC, None, filename) as content:
        assert (content.key, content.name) == (key, name)


def test_an_open_file_tells_its_name(tmp_path: Path) -> None:
    """A pipe has a number or a description in its place, which is none."""
    path = tmp_path / "song.mp3"
    path.write_bytes(MUSIC)
    with path.open("rb") as file, opened(file) as content:
        assert content.name == "song.mp3"
    reader, writer = os.pipe()
    os.write(writer, MUSIC)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe, opened(pipe) as content:
        assert (content.name, content.sha256) == ("", DIGEST)


def test_a_file_object_is_read_from_its_start_and_left_where_it_was() -> None:
    """So that submitting the same request again reads the same."""
    file = io.BytesIO(MUSIC)
    file.seek(5)
    for _ in range(2):
        with opened(file) as content:
            assert content.sha256 == DIGEST
        assert file.tell() == 5


def test_a_stream_that_was_read_says_that_it_cannot_be_read_again() -> None:
    """And how to submit it twice."""
    pipe = Pipe(MUSIC)
    with opened(pipe):
        pass
    error = refusal(pipe)
    assert error.code is ErrorCode.AUDIO_EMPTY
    assert "upload it once" in str(error)


@pytest.mark.parametrize("source", [b"", bytearray(), memoryview(b""), io.BytesIO(), Pipe(b"")])
def test_nothing_is_no_audio(source: Any) -> None:
    """Whatever it comes in."""
    assert refusal(source).code is ErrorCode.AUDIO_EMPTY


@pytest.mark.parametrize("source", [MUSIC, bytearray(MUSIC), memoryview(MUSIC), io.BytesIO(MUSIC), Pipe(MUSIC)])
def test_more_than_the_limit_is_refused(source: Any) -> None:
    """With both numbers; exactly the limit is accepted."""
    error = refusal(source, len(MUSIC) - 1)
    assert error.code is ErrorCode.FILE_TOO_LARGE
    assert f"the limit is {len(MUSIC) - 1} bytes" in str(error)


def test_a_stream_without_an_end_is_read_no_further_than_the_limit() -> None:
    """The limit acts while it is read."""

    class Endless(Pipe):
        given = 0

        def read(self, size: int = -1) -> bytes:  # noqa: ARG002 - as above
            self.given += 1 << 16
            return bytes(1 << 16)

    stream = Endless(b"")
    assert refusal(stream, 1 << 20).code is ErrorCode.FILE_TOO_LARGE
    assert stream.given <= (1 << 20) + (1 << 16)


def test_a_large_stream_is_kept_on_disk_while_it_is_uploaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its file is gone afterwards."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with opened(io.BytesIO(bytes(SPOOL_BYTES + 1))) as content:
        assert content.size_bytes == SPOOL_BYTES + 1
        assert isinstance(content.file.fileno(), int)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_under_a_stream_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the place where room is needed."""

    class Full(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads.tempfile, "SpooledTemporaryFile", lambda _size: Full())
    error = refusal(io.BytesIO(MUSIC))
    assert error.code is ErrorCode.INVALID_SOURCE
    assert "TMPDIR" in str(error)


def _closed() -> io.BytesIO:
    file = io.BytesIO(MUSIC)
    file.close()
    return file


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (_closed(), "closed file"),
        (io.StringIO("text"), "gives str instead of bytes"),
        (Broken(b""), "reset by peer"),
        (7, "a int is no source"),
        (None, "a NoneType is no source"),
        ("https://example.com/a.mp3", "is no local file"),
        ("s3://bucket/a.mp3", "is no local file"),
        ("", "the source is empty"),
        (Path("/dev/null"), "is not a regular file"),
        (Path("/"), "is a directory"),
    ],
)
def test_what_cannot_be_uploaded_is_an_invalid_source(source: Any, words: str) -> None:
    """The sentence says what it is, and what to give instead."""
    error = refusal(source)
    assert error.code is ErrorCode.INVALID_SOURCE
    assert words in str(error)


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    """What was stored would not be what was hashed."""
    path = tmp_path / "song.wav"
    path.write_bytes(MUSIC)
    with opened(path) as content:
        path.write_bytes(MUSIC + b" and more")
        assert not content.unchanged()
