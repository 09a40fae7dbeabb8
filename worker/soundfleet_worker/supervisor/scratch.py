"""Scratch: one directory per run in one directory per worker, gone with them, and swept after a worker that died."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

_NAME = re.compile(r"soundfleet-(?P<space>\d+)-(?P<pid>\d+)-(?P<born>\d+)-\w+")
_SHM = Path("/dev/shm")


class Scratch:
    """The directories of one worker's runs.

    In ``parent`` when it is given; else in /dev/shm while it has ``room_bytes`` to spare, and in the temporary
    directory otherwise. A directory's name tells whose it is: pid namespace, pid and start time of the process.
    """

    def __init__(self, parent: str = "", room_bytes: int = 0) -> None:
        disk = Path(parent) if parent else Path(tempfile.gettempdir())
        fast = _SHM if not parent and os.access(_SHM, os.W_OK) else None
        self._parents = [p for p in (fast, disk) if p is not None]
        self._room_bytes = room_bytes
        self._roots: dict[Path, Path] = {}
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

    def sweep(self) -> list[str]:
        """Remove the directories of workers that are gone; return them. Other containers' are not ours to judge."""
        removed: list[str] = []
        space = _pid_space()
        for parent in self._parents:
            for path in parent.glob("soundfleet-*"):
                match = _NAME.fullmatch(path.name)
                if match and match["space"] == space != "0" and born(int(match["pid"])) != match["born"]:
                    shutil.rmtree(path, ignore_errors=True)
                    removed.append(str(path))
        return removed

    def _root(self) -> Path:
        parent = next((p for p in self._parents if _free_bytes(p) >= self._room_bytes), self._parents[-1])
        root = self._roots.get(parent)
        if root is None:
            parent.mkdir(parents=True, exist_ok=True)
            name = f"soundfleet-{_pid_space()}-{os.getpid()}-{born(os.getpid()) or 0}-"
            root = self._roots[parent] = Path(tempfile.mkdtemp(prefix=name, dir=parent))
        return root


def born(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return stat.rpartition(b")")[2].split()[19].decode()


def _pid_space() -> str:
    """The number of this process's pid namespace; "0" where there is no such thing."""
    try:
        return re.sub(r"\D", "", os.readlink("/proc/self/ns/pid")) or "0"
    except OSError:
        return "0"


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free if path.exists() else 0
