"""Where the audio of a separation comes from. ``parse_source`` reads what people type."""

from __future__ import annotations

import re
from typing import TypeAlias
from urllib.parse import urlsplit

from .base import Strict
from .enums import InputType
from .errors import ErrorCode, error


class UploadSource(Strict, frozen=True, kw_only=True, tag_field="type", tag="file_upload"):
    """A file that the producer stored under its content hash."""

    key: str
    """Object key in the fleet's bucket: ``uploads/<sha256><suffix>``."""
    sha256: str
    size_bytes: int
    filename: str = ""


class S3Source(Strict, frozen=True, kw_only=True, tag_field="type", tag="s3"):
    """An object that the fleet's credentials can read."""

    bucket: str
    key: str


class UrlSource(Strict, frozen=True, kw_only=True, tag_field="type", tag="url"):
    """A file behind http(s)."""

    url: str


class YouTubeSource(Strict, frozen=True, kw_only=True, tag_field="type", tag="youtube_url"):
    """A video whose sound is taken."""

    url: str


class JobSource(Strict, frozen=True, kw_only=True, tag_field="type", tag="job"):
    """The output of another job: its track, or one of its stems."""

    job_id: str
    stem: str | None = None


AudioSource: TypeAlias = UploadSource | S3Source | UrlSource | YouTubeSource | JobSource

YOUTUBE_HOSTS = frozenset({"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com", "youtu.be"})
_JOB = re.compile(r"job:(?P<id>[^#]+)(#(?P<stem>[a-z0-9_]+))?")


class LocalFile(Strict, frozen=True, kw_only=True):
    """A path on the submitter's machine. Never travels: the producer uploads it first."""

    path: str


def parse_source(text: str) -> AudioSource | LocalFile:
    """Read a source as people write it: a path, ``s3://bucket/key``, ``https://...`` or ``job:ID[#stem]``.

    Raises INVALID_SOURCE when the text names a scheme that the fleet does not know.
    """
    text = text.strip()
    if not text:
        raise error(ErrorCode.INVALID_SOURCE, "the source is empty")
    if match := _JOB.fullmatch(text):
        return JobSource(job_id=match["id"], stem=match["stem"])
    scheme, separator, rest = text.partition("://")
    if not separator:
        return LocalFile(path=text)
    if scheme == "s3":
        bucket, _, key = rest.partition("/")
        if not bucket or not key:
            raise error(ErrorCode.INVALID_SOURCE, f"{text!r} must be s3://BUCKET/KEY")
        return S3Source(bucket=bucket, key=key)
    if scheme in ("http", "https"):
        return _web_source(text)
    if scheme == "file":
        return LocalFile(path=rest)
    raise error(ErrorCode.INVALID_SOURCE, f"unknown scheme {scheme!r} in {text!r}")


def _web_source(url: str) -> UrlSource | YouTubeSource:
    try:
        host = urlsplit(url).hostname
    except ValueError as exc:
        raise error(ErrorCode.INVALID_SOURCE, f"{url!r} is not an address: {exc}") from None
    if not host:
        raise error(ErrorCode.INVALID_SOURCE, f"{url!r} has no host")
    return YouTubeSource(url=url) if host.lower() in YOUTUBE_HOSTS else UrlSource(url=url)


def describe_source(source: AudioSource) -> tuple[InputType, str]:
    """Return the data model's ``(input_type, input_source)`` of a source."""
    match source:
        case UploadSource():
            return InputType.file_upload, source.key
        case S3Source():
            return InputType.s3, f"s3://{source.bucket}/{source.key}"
        case UrlSource():
            return InputType.url, source.url
        case YouTubeSource():
            return InputType.youtube_url, source.url
        case JobSource():
            return InputType.job, f"job:{source.job_id}" + (f"#{source.stem}" if source.stem else "")
