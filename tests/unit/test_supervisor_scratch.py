"""Scratch directories belong to a process, and go with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from soundfleet_worker.supervisor import scratch as room
from soundfleet_worker.supervisor.scratch import Scratch, born


def test_a_run_has_a_directory_of_its_own_until_it_is_removed(tmp_path: Path) -> None:
    """It is made by whoever writes first, and removed with all that is in it."""
    scratch = Scratch(str(tmp_path))
    path = scratch.of("job/1/7")
    assert scratch.of("job/1/7") == path != scratch.of("job/2/8")
    assert not path.exists()
    scratch.remove("job/1/7")
    (scratch.of("job/1/7") / "deep").mkdir(parents=True)
    scratch.remove("job/1/7")
    assert not path.exists()
    scratch.close()
    assert not any(tmp_path.iterdir())


def test_only_the_owner_may_look_inside(tmp_path: Path) -> None:
    """Other users' audio is none of anybody's business."""
    scratch = Scratch(str(tmp_path))
    assert scratch.of("a").parent.stat().st_mode & 0o077 == 0
    scratch.close()


def test_directories_of_dead_processes_are_swept_and_of_living_ones_are_not(tmp_path: Path) -> None:
    """A worker that was killed left one; this process and its neighbour live."""
    code = "from soundfleet_worker.supervisor.scratch import *; import sys; print(Scratch(sys.argv[1]).of('x').parent)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    dead = Path(said.stdout.strip())
    scratch = Scratch(str(tmp_path))
    living = scratch.of("y").parent
    (tmp_path / "soundfleet-something-else").mkdir()
    assert Scratch(str(tmp_path)).sweep() == [str(dead)]
    assert living.exists()
    scratch.close()


def test_a_pid_that_came_again_does_not_protect_the_dead(tmp_path: Path) -> None:
    """The start time in the name tells a process from its successor with the same number."""
    scratch = Scratch(str(tmp_path))
    mine = scratch.of("x").parent
    forged = Path(str(mine).replace(f"-{born(os.getpid())}-", "-1-"))
    forged.mkdir()
    assert Scratch(str(tmp_path)).sweep() == [str(forged)]
    scratch.close()


def test_memory_is_used_while_there_is_room_and_the_disk_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run must not die of a full tmpfs."""
    shm, disk = tmp_path / "shm", tmp_path / "disk"
    shm.mkdir()
    disk.mkdir()
    monkeypatch.setattr(room, "_SHM", shm)
    monkeypatch.setattr(room.tempfile, "gettempdir", lambda: str(disk))
    free = {shm: 100, disk: 10_000}
    monkeypatch.setattr(room, "_free_bytes", lambda path: free[path])
    scratch = Scratch(room_bytes=50)
    assert scratch.of("a").is_relative_to(shm)
    free[shm] = 49
    assert scratch.of("b").is_relative_to(disk)
    scratch.close()
