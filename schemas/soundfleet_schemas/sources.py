"""Where the audio of a separation comes from. ``parse_source`` reads what people type, ``check_source`` the rest."""

from __future__ import annotations

import re
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from .base import Strict
from .enums import InputType
from .errors import ErrorCode, SoundfleetError, error, show


class UploadSource(Strict, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="file_upload"):
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


class JobSource(Strict, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="job"):
    """The output of another job: its track, or one of its stems."""

    job_id: str
    stem: str | None = None


AudioSource: TypeAlias = UploadSource | S3Source | UrlSource | YouTubeSource | JobSource

YOUTUBE_HOSTS = frozenset({"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com", "youtu.be"})
MAX_URL_CHARS = 2048
MAX_KEY_BYTES = 1024
"""Of UTF-8, as S3 counts."""
MAX_NAME_CHARS = 255

_JOB = re.compile(r"job:(?P<id>[^#]+)(#(?P<stem>.+))?")
_STEM = re.compile(r"[a-z0-9_]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UPLOAD_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,16})?")
MAX_BUCKET_CHARS = 255
BUCKET = r"[A-Za-z0-9](\.?[A-Za-z0-9_-])*"
KEY = r"[^\x00-\x1f\x7f-\x9f]+"
"""No control characters."""
_BUCKET = re.compile(BUCKET)
_KEY = re.compile(KEY)
_SCHEME = re.compile(r"(?P<scheme>https?|s3|job|file|ftp|data|blob):", re.IGNORECASE)
"""Of addresses only: a file may have a colon in its name."""
_FORMS = {
    "http": "http://HOST/PATH",
    "https": "https://HOST/PATH",
    "s3": "s3://BUCKET/KEY",
    "job": "job:ID or job:ID#STEM",
    "file": "file:///PATH",
}


class LocalFile(Strict, frozen=True, kw_only=True):
    """A path on the submitter's machine. Never travels: the producer uploads it first."""

    path: str


def parse_source(text: str) -> AudioSource | LocalFile:
    """Read a source as people write it: a path, ``s3://bucket/key``, ``https://...`` or ``job:ID[#stem]``.

    Raises INVALID_SOURCE when the text names a scheme that the fleet does not know, or a known one wrongly.
    """
    text = text.strip()
    if not text:
        raise _refuse("the source is empty")
    if match := _JOB.fullmatch(text):
        return JobSource(job_id=match["id"], stem=match["stem"])
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _local(text)
    match scheme.lower():
        case "s3":
            bucket, _, key = rest.partition("/")
            if not bucket or not key:
                raise _refuse(f"{show(text)} is not s3://BUCKET/KEY")
            return S3Source(bucket=bucket, key=key)
        case "http" | "https":
            return YouTubeSource(url=text) if _host(text) in YOUTUBE_HOSTS else UrlSource(url=text)
        case "file":
            return LocalFile(path=unquote(rest.removeprefix("localhost")))
    raise _unknown_scheme(text, scheme)


def _local(text: str) -> LocalFile:
    """Read a text without ``://`` as a path, unless it is an address that was written wrongly."""
    if text.startswith("//"):
        raise _refuse(
            f"{show(text)} begins with two slashes; an address takes https: before them, a path takes one slash"
        )
    if match := _SCHEME.match(text):
        form = _FORMS.get(match["scheme"].lower())
        raise _unknown_scheme(text, match["scheme"]) if form is None else _refuse(f"{show(text)} is not {form}")
    return LocalFile(path=text)


def _unknown_scheme(text: str, scheme: str) -> SoundfleetError:
    return _refuse(f"{show(text)} has the unknown scheme {show(scheme)}")


def check_source(source: AudioSource) -> None:
    """Raise INVALID_SOURCE unless the parts of a source are what their type says."""
    match source:
        case UploadSource():
            _check_upload(source)
        case S3Source():
            if len(source.bucket) > MAX_BUCKET_CHARS or not _BUCKET.fullmatch(source.bucket):
                raise _refuse(f"{show(source.bucket)} is not the name of a bucket")
            _check_key(source.key)
        case UrlSource():
            _host(source.url)
            if "@" in urlsplit(source.url).netloc:  # whoever may read the job would read the password
                raise _refuse("the address holds a user name or password; use a signed address instead")
        case YouTubeSource():
            if _host(source.url) not in YOUTUBE_HOSTS:
                raise _refuse(f"{show(source.url)} is not an address of {', '.join(sorted(YOUTUBE_HOSTS))}")
        case JobSource():
            if source.stem is not None and not _STEM.fullmatch(source.stem):
                raise _refuse(f"{show(source.stem)} is not the name of a stem")


def _check_key(key: str) -> None:
    size = len(key.encode("utf-8", "replace"))
    if not 1 <= size <= MAX_KEY_BYTES:
        raise _refuse(f"an object key has 1 to {MAX_KEY_BYTES} bytes; this one has {size}")
    if not _KEY.fullmatch(key):
        raise _refuse(f"the object key {show(key)} holds control characters")
    if ".." in key.split("/"):  # a proxy before the storage would resolve it, even out of the bucket
        raise _refuse(f"the object key {show(key)} holds '..' as a step")


def _check_upload(source: UploadSource) -> None:
    if not _SHA256.fullmatch(source.sha256):
        raise _refuse(f"sha256 is {show(source.sha256)}; it takes 64 lower-case hex digits")
    prefix = f"uploads/{source.sha256}"
    if not source.key.startswith(prefix) or not _UPLOAD_SUFFIX.fullmatch(source.key.removeprefix(prefix)):
        raise _refuse(f"the upload's key is {show(source.key)}; it takes {prefix} and a file suffix")
    if source.size_bytes < 1:
        raise _refuse(f"size_bytes is {show(source.size_bytes)}; an upload has at least 1 byte")
    if len(source.filename) > MAX_NAME_CHARS:
        raise _refuse(f"filename has {len(source.filename)} characters, over {MAX_NAME_CHARS}")


def _host(url: str) -> str:
    """Return the host of an http(s) address, lower case."""
    if len(url) > MAX_URL_CHARS:
        raise _refuse(f"the address has {len(url)} characters, over {MAX_URL_CHARS}")
    if any(c.isspace() or not c.isprintable() for c in url):  # urlsplit would drop some of them silently
        raise _refuse(f"{show(url)} holds white space or control characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # both are parsed when asked for
    except ValueError as exc:
        raise _refuse(f"{show(url)} is not an address: {exc}") from None
    if parts.scheme not in ("http", "https"):
        raise _refuse(f"{show(url)} is not an http or https address")
    if not host:
        raise _refuse(f"{show(url)} has no host")
    return host.rstrip(".")


def _refuse(message: str) -> SoundfleetError:
    return error(ErrorCode.INVALID_SOURCE, message)


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
