"""The process that pulls: it ends with who wanted the model; the hub is on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import msgspec
import pytest
from tests.hub import Hub, serving
from tests.waiting import wait_until

pytest.importorskip("huggingface_hub", reason="needs the worker extra")

from soundfleet_worker.models.pull import Fetched
from soundfleet_worker.models.pull_main import PullOrder

NAME = "htdemucs"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has htdemucs, and the environment that leads a process there."""
    files = {"htdemucs.yaml": b"models: ['955717e8']\n", "955717e8.safetensors": os.urandom(2_000_000)}
    with serving({"adefossez/HTDemucs": files}) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        yield served


def test_the_download_dies_with_its_supervisor(hub: Hub, tmp_path: Path) -> None:
    """Even with one that is killed."""
    hub.slow = Event()
    order = "msgspec.json.encode(PullOrder(name='htdemucs', parent=os.getpid())).decode()"
    script = f"""
import msgspec, os, subprocess, sys
from soundfleet_worker.models.pull_main import PullOrder
child = subprocess.Popen([sys.executable, "-m", "soundfleet_worker.models.pull_main", {order}])
print(child.pid, flush=True)
child.wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until(lambda: list(tmp_path.rglob("*.partial")), "the download to begin")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child), "the download's end")


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_an_order_of_a_process_that_is_gone_is_not_carried_out(hub: Hub) -> None:
    """It died before its child could say that it wants to die with it."""
    order = msgspec.json.encode(PullOrder(name=NAME, parent=1)).decode()
    done = subprocess.run(
        [sys.executable, "-m", "soundfleet_worker.models.pull_main", order],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, hub.asked) == (1, b"", [])


def test_nothing_known_of_the_size_is_no_percent() -> None:
    """While the hub is being asked."""
    assert Fetched("", 0, 0).percent == 0
