"""What a caller may upload, opened for storage: its bytes, their hash and size, and the name that it goes by.

A file on disk is read where it lies. Anything else is read once, up to the limit, into a spool: a stream cannot be read
twice, and what is stored must be what was hashed.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias, TypeGuard

from soundfleet_schemas import ErrorCode, LocalFile, SoundfleetError, error, parse_source
from soundfleet_schemas.errors import show
from soundfleet_schemas.sources import MAX_NAME_CHARS

Upload: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""A path, the bytes themselves, or a binary file object."""
MEBIBYTE = 1024 * 1024
SPOOL_BYTES = 16 * MEBIBYTE
"""What is kept of a stream in memory; the whole goes to the temporary directory when it has more."""
_CHUNK_BYTES = MEBIBYTE
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
_STREAM = "the file object"


class Content(NamedTuple):
    """What is to be stored."""

    file: IO[bytes]
    """At its beginning. Whoever reads it may close it."""
    sha256: str
    size_bytes: int
    name: str
    """As a message can carry it; empty when it has none."""
    unchanged: Callable[[], bool] = lambda: True
    """Whether it still is what was hashed."""

    @property
    def key(self) -> str:
        """``uploads/<sha256><suffix>``."""
        suffix = os.path.splitext(self.name)[1].lower()
        return f"uploads/{self.sha256}{suffix if _SUFFIX.fullmatch(suffix) else ''}"


def is_upload(source: object) -> TypeGuard[Upload | LocalFile]:
    """Say whether a source, other than a text, is one that only this process can read."""
    return isinstance(source, bytes | bytearray | memoryview | os.PathLike | LocalFile) or hasattr(source, "read")


@contextmanager
def opened(source: Upload | LocalFile, max_bytes: int | None = None, filename: str | None = None) -> Iterator[Content]:
    """Open what is to be uploaded, under ``filename`` or its own name.

    Raises SOURCE_NOT_FOUND, SOURCE_FORBIDDEN, AUDIO_EMPTY, FILE_TOO_LARGE (over ``max_bytes``), or INVALID_SOURCE: a
    directory, a closed or textual file object, an address.
    """
    name = None if filename is None else _shown_name(filename)
    if isinstance(source, bytes | bytearray | memoryview):
        check_size("the upload", memoryview(source).nbytes, max_bytes)
        data = bytes(source)
        yield Content(BytesIO(data), hashlib.sha256(data).hexdigest(), len(data), name or "")
    elif isinstance(source, str | os.PathLike | LocalFile):
        with _file(_path(source), max_bytes, name) as content:
            yield content
    elif hasattr(source, "read"):
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool, _from_its_start(source):
            sha256, size = _copy(source, spool, max_bytes)
            spool.seek(0)
            yield Content(spool, sha256, size, name if name is not None else _name_of(source))
    else:
        raise error(
            ErrorCode.INVALID_SOURCE, f"a {type(source).__name__} is no source", "Give a path, bytes or a file."
        )


def check_size(name: str, size: int, max_bytes: int | None) -> None:
    """Raise AUDIO_EMPTY or FILE_TOO_LARGE."""
    if size == 0:
        raise error(ErrorCode.AUDIO_EMPTY, f"{name} is empty")
    if max_bytes is not None and size > max_bytes:
        raise too_large(name, shown_size(size), max_bytes)


def too_large(name: str, size: str, max_bytes: int) -> SoundfleetError:
    """Build the error of what has ``size``, over the limit."""
    return error(ErrorCode.FILE_TOO_LARGE, f"{name} has {size}; the limit is {shown_size(max_bytes)}")


def shown_size(size: int) -> str:
    """A number of bytes as people read it."""
    return f"{size / MEBIBYTE:.1f} MiB" if size >= MEBIBYTE else f"{size:,} bytes"


def _path(source: str | os.PathLike[str] | LocalFile) -> Path:
    """Return the path that is meant; ``~`` is the caller's home. Raises INVALID_SOURCE for an address."""
    if isinstance(source, str):
        local = parse_source(source)
        if not isinstance(local, LocalFile):
            raise error(ErrorCode.INVALID_SOURCE, f"{show(source)} is no local file", "Submit it as it is.")
        source = local
    path = Path(source.path if isinstance(source, LocalFile) else os.fsdecode(source))
    with suppress(RuntimeError):  # "~name" of nobody's home
        path = path.expanduser()
    return path


@contextmanager
def _file(path: Path, max_bytes: int | None, name: str | None) -> Iterator[Content]:
    with _open(path) as file:
        before = os.fstat(file.fileno())
        check_size(str(path), before.st_size, max_bytes)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)

        def unchanged() -> bool:
            after = os.fstat(file.fileno())
            return (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)

        with os.fdopen(os.dup(file.fileno()), "rb") as copy:
            yield Content(copy, sha256, before.st_size, _shown_name(path.name) if name is None else name, unchanged)


def _open(path: Path) -> Any:
    try:
        if not path.is_file():
            if path.is_dir():
                raise error(ErrorCode.INVALID_SOURCE, f"{path} is a directory", "Give one file of it.")
            if path.exists():
                raise error(ErrorCode.INVALID_SOURCE, f"{path} is not a regular file", "Give it as a file object.")
            raise error(ErrorCode.SOURCE_NOT_FOUND, f"there is no file {path}")
        return path.open("rb")
    except PermissionError:
        raise error(ErrorCode.SOURCE_FORBIDDEN, f"{path} may not be read", "Change its permissions.") from None
    except OSError as exc:
        raise error(ErrorCode.SOURCE_NOT_FOUND, f"{path} cannot be read: {exc.strerror}") from None


@contextmanager
def _from_its_start(file: IO[bytes]) -> Iterator[None]:
    """Rewind a file object that can be, and leave it where it was: submitting again reads the same."""
    position = None
    with suppress(Exception):  # a foreign object may raise anything; what is wrong with it shows when it is read
        if file.seekable():
            position = file.tell()
            file.seek(0)
    try:
        yield
    finally:
        if position is not None:
            with suppress(Exception):
                file.seek(position)


def _copy(file: IO[bytes], spool: IO[bytes], max_bytes: int | None) -> tuple[str, int]:
    """Copy a file object, up to the limit; return the SHA-256 and the size."""
    digest, size = hashlib.sha256(), 0
    while chunk := _read(file):
        size += len(chunk)
        if max_bytes is not None and size > max_bytes:
            raise too_large(_STREAM, f"over {shown_size(max_bytes)}", max_bytes)
        digest.update(chunk)
        try:
            spool.write(chunk)
        except OSError as exc:
            where = tempfile.gettempdir()
            message = f"{_STREAM} cannot be kept in {where}: {exc.strerror}"
            raise error(ErrorCode.INVALID_SOURCE, message, "Make room there, or set TMPDIR.") from exc
    if size == 0:
        raise error(
            ErrorCode.AUDIO_EMPTY,
            f"{_STREAM} gave no bytes",
            "A stream that was read cannot be read again: upload it once, and submit what `upload` returns.",
        )
    return digest.hexdigest(), size


def _read(file: IO[bytes]) -> bytes:
    try:
        chunk: object = file.read(_CHUNK_BYTES)
    except Exception as exc:  # a foreign object may raise anything: it is closed, its connection broke
        raise error(
            ErrorCode.INVALID_SOURCE, f"{_STREAM} cannot be read: {exc}", "Open it again, in mode 'rb'."
        ) from exc
    if not isinstance(chunk, bytes | bytearray | memoryview):
        given = type(chunk).__name__
        raise error(ErrorCode.INVALID_SOURCE, f"{_STREAM} gives {given} instead of bytes", "Open it in mode 'rb'.")
    return bytes(chunk)


def _name_of(file: IO[bytes]) -> str:
    name = getattr(file, "name", None)  # a number for a descriptor, <stdin> for a pipe
    return _shown_name(name) if isinstance(name, str) and not name.startswith("<") else ""


def _shown_name(name: str) -> str:
    """The name of a file as a message can carry it: names on a disk are bytes, and may be no text."""
    return os.path.basename(name).encode(errors="replace").decode()[:MAX_NAME_CHARS]
