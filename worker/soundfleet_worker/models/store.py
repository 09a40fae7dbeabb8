"""Where a model's files lie on this machine: the hub's cache, or a directory of models.

Both keep what is not whole beside what is, under the name of its content, so that nobody takes it for a file and the
next attempt goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from .published import Published

LOOK_EVERY_SEC = 0.2
"""At the lock that another process holds."""
_BLOCK_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it."""

    path: str
    size: int
    digest: str
    """SHA-256 of a large file's content; of a small one git's SHA-1 (of ``blob <size>\\0<content>``)."""


def digest_of(path: Path, like: str) -> str:
    """Hash a file as the hub has hashed one whose digest is ``like``."""
    with path.open("rb") as file:
        if len(like) == hashlib.sha256().digest_size * 2:
            return hashlib.file_digest(file, "sha256").hexdigest()
        content = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        while block := file.read(_BLOCK_BYTES):
            content.update(block)
        return content.hexdigest()


def is_digest(text: object) -> TypeGuard[str]:
    """Whether a hub's word is a hash, and so no path: files and folders are named by it."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def named_digest(path: Path) -> str | None:
    """The digest that a file of the hub's cache is named by; None of a file that lies elsewhere."""
    name = path.resolve().name
    return name if _DIGEST.fullmatch(name) else None


class Store(ABC):
    """A place for the files of one model."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def current(self) -> Path | None:
        """The folder with the model's files, complete or not; None when there is none."""

    @abstractmethod
    def content(self, file: RemoteFile) -> Path:
        """Where a whole file's content lies."""

    @abstractmethod
    def partial(self, file: RemoteFile) -> Path:
        """Where the content is gathered."""

    @abstractmethod
    def finish(self, commit: str, files: list[RemoteFile]) -> Path:
        """Make whole files the model's own; return their folder."""

    @property
    @abstractmethod
    def lock_path(self) -> Path:
        """What a process that downloads holds."""

    def has(self, file: RemoteFile) -> bool:
        """Whether a file's content is here and right; one that is wrong is removed."""
        path = self.content(file)
        if not path.is_file():
            return False
        if path.stat().st_size == file.size and digest_of(path, file.digest) == file.digest:
            return True
        path.unlink()
        return False

    def bytes_of(self, files: list[RemoteFile]) -> int:
        """How many bytes of the files are here, whole or in part."""
        return sum(_size(self.content(file)) or _size(self.partial(file)) for file in files)

    @contextlib.contextmanager
    def lock(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the lock of this model; ``waiting`` is called now and then until another process lets it go.

        The kernel takes it from a process that dies.
        """
        self.lock_path.parent.mkdir(parents=True, exist_ok=True)
        with self.lock_path.open("a") as file:
            while not _locked(file.fileno()):
                waiting()
                time.sleep(LOOK_EVERY_SEC)
            yield


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if exc.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True  # also where the file system knows no locks: the hash is what keeps a mixed file out


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


class HubCache(Store):
    """The hub's cache, in the layout of its own client: blobs by content, snapshots by commit, refs by revision."""

    def __init__(self, model: Published) -> None:
        from huggingface_hub import constants

        self._cache = Path(constants.HF_HUB_CACHE)
        super().__init__(self._cache / f"models--{model.repository.replace('/', '--')}")
        self._ref = self.root / "refs" / model.revision

    def current(self) -> Path | None:
        """The snapshot that the revision names."""
        try:
            folder = self.root / "snapshots" / self._ref.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return folder if folder.is_dir() else None

    def content(self, file: RemoteFile) -> Path:
        """In ``blobs``."""
        return self.root / "blobs" / file.digest

    def partial(self, file: RemoteFile) -> Path:
        """Beside it."""
        return self.root / "blobs" / f"{file.digest}.partial"

    @property
    def lock_path(self) -> Path:
        """Where the hub's client has its own locks."""
        return self._cache / ".locks" / self.root.name / "soundfleet.lock"

    def finish(self, commit: str, files: list[RemoteFile]) -> Path:
        """Link the snapshot to the blobs, then the revision to the snapshot."""
        folder = self.root / "snapshots" / commit
        for file in files:
            pointer = folder / file.path
            pointer.parent.mkdir(parents=True, exist_ok=True)
            _link(self.content(file), pointer)
        self._ref.parent.mkdir(parents=True, exist_ok=True)
        _write(self._ref, commit)
        return folder


class Directory(Store):
    """A directory of models: the files under their own names, for ``model_dir`` on a machine without a network."""

    def __init__(self, model: Published, directory: Path) -> None:
        super().__init__(directory / model.folder)
        self._name = model.repository.replace("/", "--")

    def current(self) -> Path | None:
        """None: whose the files are that lie there, only the hub's list can say."""
        return None

    def content(self, file: RemoteFile) -> Path:
        """Under the repository's path."""
        return self.root / file.path

    def partial(self, file: RemoteFile) -> Path:
        """In a folder that no model has."""
        return self.root / ".partial" / file.digest

    @property
    def lock_path(self) -> Path:
        """Beside what is being gathered."""
        return self.root / ".partial" / f"{self._name}.lock"

    def finish(self, commit: str, files: list[RemoteFile]) -> Path:  # noqa: ARG002 - a directory has no versions
        """Remove what only the download needed."""
        self.lock_path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another model is being gathered there
            self.lock_path.parent.rmdir()
        return self.root


def _link(content: Path, pointer: Path) -> None:
    """Let ``pointer`` lead to ``content``: a relative link, or a copy where there are no links."""
    beside = pointer.with_name(f".{pointer.name}.{os.getpid()}")
    try:
        os.symlink(os.path.relpath(content, pointer.parent), beside)
    except OSError:
        shutil.copyfile(content, beside)
    os.replace(beside, pointer)


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="ascii")
    os.replace(beside, path)
