"""Sources: what people type, and what may travel."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soundfleet_schemas import (
    AudioSource,
    ErrorCode,
    InputType,
    JobSource,
    LocalFile,
    S3Source,
    SeparationRequest,
    SoundfleetError,
    UploadSource,
    UrlSource,
    YouTubeSource,
    describe_source,
    parse_source,
    validate,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JOB = "0b7c1b1e-8f2b-4c6d-9a53-0e6f1d2c3b4a"
SHA = "0123456789abcdef" * 4
YOUTUBE = "https://www.youtube.com/watch?v=dQw4w9WgXcQ"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("song.mp3", LocalFile(path="song.mp3")),
        (" /music/a b.wav ", LocalFile(path="/music/a b.wav")),
        ("C:\\music\\song.mp3", LocalFile(path="C:\\music\\song.mp3")),
        ("job.mp3", LocalFile(path="job.mp3")),
        ("Bach: Air.mp3", LocalFile(path="Bach: Air.mp3")),
        ("./job:x#", LocalFile(path="./job:x#")),
        ("file:///music/a%20b.wav", LocalFile(path="/music/a b.wav")),
        ("file://localhost/music/a.wav", LocalFile(path="/music/a.wav")),
        ("s3://songs/2026/one.wav", S3Source(bucket="songs", key="2026/one.wav")),
        ("S3://songs/one.wav", S3Source(bucket="songs", key="one.wav")),
        ("https://example.org/a.mp3", UrlSource(url="https://example.org/a.mp3")),
        ("HTTP://example.org:8080/a.mp3", UrlSource(url="HTTP://example.org:8080/a.mp3")),
        ("https://youtube.com.example.org/a", UrlSource(url="https://youtube.com.example.org/a")),
        ("https://youtube.com@example.org/a", UrlSource(url="https://youtube.com@example.org/a")),
        (YOUTUBE, YouTubeSource(url=YOUTUBE)),
        ("https://youtu.be/dQw4w9WgXcQ", YouTubeSource(url="https://youtu.be/dQw4w9WgXcQ")),
        ("https://YouTube.com./watch?v=x", YouTubeSource(url="https://YouTube.com./watch?v=x")),
        (f"job:{JOB}", JobSource(job_id=JOB)),
        (f"job:{JOB}#vocals", JobSource(job_id=JOB, stem="vocals")),
    ],
)
def test_a_source_is_read_as_people_write_it(text: str, source: AudioSource | LocalFile) -> None:
    """Schemes in any case; a YouTube address by its host, never by its path."""
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "ftp://example.org/a",
        "s3://bucket",
        "s3:///key",
        "https://",
        "https://[::1",
        "http://a:99999/b",
        "://x",
    ],
)
def test_a_text_that_names_no_source_is_refused(text: str) -> None:
    """INVALID_SOURCE, with the text in the message."""
    with pytest.raises(SoundfleetError) as caught:
        parse_source(text)
    assert caught.value.code is ErrorCode.INVALID_SOURCE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data:audio/mp3;base64,xx", "'data:audio/mp3;base64,xx' has the unknown scheme 'data'."),
        ("FTP:x", "'FTP:x' has the unknown scheme 'FTP'."),
        ("http:/h/x", "'http:/h/x' is not http://HOST/PATH."),
        ("https:h", "'https:h' is not https://HOST/PATH."),
        ("s3:/b/k", "'s3:/b/k' is not s3://BUCKET/KEY."),
        ("file:/a.wav", "'file:/a.wav' is not file:///PATH."),
        (f"job:{JOB}#", "is not job:ID or job:ID#STEM."),
        ("job:", "'job:' is not job:ID or job:ID#STEM."),
        ("//h/x", "'//h/x' begins with two slashes; an address takes https: before them, a path takes one slash."),
    ],
)
def test_an_address_that_is_written_wrongly_is_no_local_path(text: str, said: str) -> None:
    """The message says what is wrong with it."""
    with pytest.raises(SoundfleetError) as caught:
        parse_source(text)
    assert caught.value.code is ErrorCode.INVALID_SOURCE
    assert said in str(caught.value)


@pytest.mark.parametrize("bucket", ["b", "my.songs-2026", "a--b", "Legacy_Name", "b" * 255])
@pytest.mark.parametrize("key", ["k", "a..b/..c", "é" * 512, "夜 の/雨.wav", "/lead"])
def test_an_object_that_s3_can_hold_may_be_named(bucket: str, key: str) -> None:
    """Any characters but control characters; dots where they are no steps upwards."""
    validate(SeparationRequest(source=S3Source(bucket=bucket, key=key)))


def upload(**fields: Any) -> UploadSource:
    """An upload that is valid but for ``fields``."""
    return UploadSource(**{"key": f"uploads/{SHA}.mp3", "sha256": SHA, "size_bytes": 1, **fields})


@pytest.mark.parametrize(
    "source",
    [
        "song.mp3",
        "https://exa mple.org/a",
        upload(sha256="x"),
        upload(sha256=SHA.upper()),
        upload(key="uploads/other.mp3"),
        upload(key=f"uploads/{SHA}/../../jobs/x"),
        upload(size_bytes=0),
        upload(size_bytes=True),
        upload(filename="x" * 256),
        S3Source(bucket="", key="k"),
        S3Source(bucket="a/b", key="k"),
        S3Source(bucket="b", key=""),
        S3Source(bucket="..", key="k"),
        S3Source(bucket="a..b", key="k"),
        S3Source(bucket=".a", key="k"),
        S3Source(bucket="a.", key="k"),
        S3Source(bucket="b" * 256, key="k"),
        S3Source(bucket="b", key="k" * 1025),
        S3Source(bucket="b", key="é" * 513),
        S3Source(bucket="b", key="a\x00b"),
        S3Source(bucket="b", key="a\n"),
        S3Source(bucket="b", key="a\x7f"),
        S3Source(bucket="b", key="../other/k"),
        S3Source(bucket="b", key="a/.."),
        "s3://../k",
        "s3://b/a/../k",
        UrlSource(url="file:///etc/passwd"),
        UrlSource(url="https://example.org/\nHost: x"),
        UrlSource(url="https://example.org/\x01"),
        UrlSource(url="https://example.org/\u202e3pm.exe"),
        UrlSource(url="https://example.org/" + "x" * 2048),
        YouTubeSource(url="https://example.org/watch"),
        YouTubeSource(url="file:///etc/passwd"),
        JobSource(job_id=JOB, stem="../x"),
    ],
)
def test_a_source_that_is_not_what_its_type_says_is_refused(source: AudioSource | str) -> None:
    """A message from another language is held to what ``parse_source`` would have made."""
    with pytest.raises(SoundfleetError) as caught:
        validate(SeparationRequest(source=source))
    assert caught.value.code is ErrorCode.INVALID_SOURCE


def test_the_output_of_a_job_needs_a_real_id() -> None:
    """Whose code is that of an id."""
    with pytest.raises(SoundfleetError) as caught:
        validate(SeparationRequest(source="job:nope"))
    assert caught.value.code is ErrorCode.INVALID_JOB_ID


def test_a_job_is_not_its_own_source() -> None:
    """It would wait for itself."""
    with pytest.raises(SoundfleetError, match="names itself") as caught:
        validate(SeparationRequest(id=JOB, source=f"job:{JOB}"))
    assert caught.value.code is ErrorCode.INVALID_SOURCE


@pytest.mark.parametrize(
    ("source", "described"),
    [
        (upload(), (InputType.file_upload, f"uploads/{SHA}.mp3")),
        (S3Source(bucket="b", key="k/l"), (InputType.s3, "s3://b/k/l")),
        (UrlSource(url="https://example.org/a"), (InputType.url, "https://example.org/a")),
        (YouTubeSource(url=YOUTUBE), (InputType.youtube_url, YOUTUBE)),
        (JobSource(job_id=JOB), (InputType.job, f"job:{JOB}")),
        (JobSource(job_id=JOB, stem="drums"), (InputType.job, f"job:{JOB}#drums")),
    ],
)
def test_a_source_is_shown_as_the_data_model_shows_it(source: AudioSource, described: tuple[InputType, str]) -> None:
    """(input_type, input_source); what is shown can be typed again, an upload excepted."""
    assert describe_source(source) == described
    if not isinstance(source, UploadSource):
        assert parse_source(described[1]) == source
    validate(SeparationRequest(source=source))


@UNHURRIED
@given(st.text(max_size=60) | st.text(max_size=30).map("https://".__add__) | st.text(max_size=30).map("s3://".__add__))
def test_no_text_makes_parsing_raise_anything_else(text: str) -> None:
    """A source, a path or INVALID_SOURCE."""
    with contextlib.suppress(SoundfleetError):
        parse_source(text)
