"""Scratch: one directory per run in one directory per worker, gone with them, and swept after a worker that died."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "soundfleet-scratch-"
_SHM = Path("/dev/shm")


class Scratch:
    """The directories of one worker's runs.

    In ``parent`` when it is given; else in /dev/shm while it has ``room_bytes`` to spare, and in the temporary
    directory otherwise. A worker holds a lock on its directory, which ends with the process and is seen from other
    containers: what is not locked is nobody's.
    """

    def __init__(self, parent: str = "", room_bytes: int = 0) -> None:
        disk = Path(parent) if parent else Path(tempfile.gettempdir())
        fast = _SHM if not parent and os.access(_SHM, os.W_OK) else None
        self._parents = [p for p in (fast, disk) if p is not None]
        self._room_bytes = room_bytes
        self._roots: dict[Path, Path] = {}
        self._locks: list[int] = []
        self._given: dict[str, Path] = {}

    def of(self, run: str) -> Path:
        """The directory of a run. Whoever writes there first makes it: most small runs never do."""
        path = self._given.get(run)
        if path is None:
            path = self._given[run] = self._root() / run.replace("/", "-")
        return path

    def remove(self, run: str) -> None:
        """Remove a run's directory and all that is in it, if it was made."""
        path = self._given.pop(run, None)
        if path is not None and os.path.exists(path):
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        self._given.clear()
        for root in self._roots.values():
            shutil.rmtree(root, ignore_errors=True)
        self._roots.clear()
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()

    def sweep(self) -> list[str]:
        """Remove the directories of workers that are gone; return them."""
        removed: list[str] = []
        for parent in self._parents:
            for path in parent.glob(f"{_PREFIX}*"):
                lock = _lock(path, wait=False)
                if lock is not None:
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(lock)
                    removed.append(str(path))
        return removed

    def _root(self) -> Path:
        parent = next((p for p in self._parents if _free_bytes(p) >= self._room_bytes), self._parents[-1])
        root = self._roots.get(parent)
        if root is None:
            parent.mkdir(parents=True, exist_ok=True)
            root = self._roots[parent] = self._make(parent)
        return root

    def _make(self, parent: Path) -> Path:
        """Make a directory and lock it; another when a neighbour swept it before it was locked."""
        while True:
            root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            lock = _lock(root, wait=True)
            if lock is not None:
                self._locks.append(lock)
                return root
            if root.exists():  # on a file system without locks, where neighbours cannot sweep either
                return root


def _lock(path: Path, wait: bool) -> int | None:
    """Lock a directory; return the descriptor that holds the lock until it is closed, however its process ends.

    None when it is gone, not ours to open, or locked by another; also where the file system has no locks.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except OSError:
        pass  # another's, or gone while we waited
    os.close(fd)
    return None


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free if path.exists() else 0
