"""Scratch directories belong to a process, and go with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
import structlog

from soundfleet_schemas import Keys
from soundfleet_worker.supervisor import scratch as room
from soundfleet_worker.supervisor.duties.sweeper import Sweeper
from soundfleet_worker.supervisor.scratch import Scratch


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


def test_the_directory_of_a_killed_process_is_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    """While a neighbour lives its directory is nobody else's, whatever its pid; when it is killed it is swept."""
    code = (
        "from soundfleet_worker.supervisor.scratch import *; import sys;"
        "s = Scratch(sys.argv[1]); print(s.of('x').parent, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    scratch = Scratch(str(tmp_path))
    living = scratch.of("y").parent
    (tmp_path / "soundfleet-something-else").mkdir()
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as neighbour:
        try:
            assert neighbour.stdout is not None
            dead = Path(neighbour.stdout.readline().strip())
            assert Scratch(str(tmp_path)).sweep() == []
            assert dead.is_dir()
        finally:
            neighbour.kill()
    (dead / "run").mkdir()
    assert scratch.sweep() == [str(dead)]
    assert living.exists()
    scratch.close()


async def test_the_sweeper_of_a_living_worker_sweeps_after_the_dead_though_redis_is_away(tmp_path: Path) -> None:
    """What a killed worker left in memory does not wait for the next start."""
    left = tmp_path / "soundfleet-scratch-left"
    left.mkdir()

    class Away:
        def perform(self, *_: object) -> NoReturn:
            raise ConnectionError

    log = structlog.get_logger()
    sweeper = Sweeper(Keys("test"), cast(Any, Away()), None, set(), Scratch(str(tmp_path)), log)
    with pytest.raises(ConnectionError):
        await sweeper.tick()
    assert not left.exists()


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
