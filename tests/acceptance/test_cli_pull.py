"""Pulling models ahead of their first job, by the hub's own client, from a hub on loopback."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from tests.hub import Hub, serving

pytest.importorskip("huggingface_hub", reason="needs the worker extra")

from soundfleet_producer.local import free_port

WEIGHTS = os.urandom(3_000_000)
FILES = {"htdemucs.yaml": b"models: ['955717e8']\n", "955717e8.safetensors": WEIGHTS}
SIX = {"htdemucs_6s.yaml": b"models: ['5c90dfd2']\n", "5c90dfd2.safetensors": WEIGHTS[:2000]}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that has htdemucs and htdemucs_6s."""
    with serving({"adefossez/HTDemucs": dict(FILES), "adefossez/HTDemucs-6s": SIX}) as served:
        yield served


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "soundfleet_producer.cli", "backends", "pull", *arguments]


def environment(hub: str, home: Path, **env: str) -> dict[str, str]:
    return os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(home)} | env


def pull(hub: str, home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a home of its own."""
    return subprocess.run(
        command(*arguments, "--json"),
        env=environment(hub, home, **env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_pulled_models_lie_where_the_workers_look(hub: Hub, tmp_path: Path) -> None:
    """Every file of each bag, by its name; several models in one command, each a document."""
    done = pull(hub.url, tmp_path, "htdemucs", "htdemucs_6s")
    assert (done.returncode, done.stderr) == (0, "")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [document["model"] for document in said] == ["htdemucs", "htdemucs_6s"]
    for document, files in zip(said, (FILES, SIX), strict=True):
        assert {path.name: path.read_bytes() for path in Path(document["folder"]).iterdir()} == files


@pytest.mark.parametrize(
    ("model", "env", "code", "status"),
    [
        ("no_such_model", {}, "INVALID_MODEL", 2),
        ("mdx", {}, "MODEL_LOAD_FAILED", 1),
        ("htdemucs", {"SOUNDFLEET_OFFLINE": "1"}, "BACKEND_NOT_READY", 1),
        ("htdemucs", {"HF_HUB_OFFLINE": "1"}, "BACKEND_NOT_READY", 1),
    ],
)
def test_what_cannot_be_pulled_is_one_line(
    hub: Hub, tmp_path: Path, model: str, env: dict[str, str], code: str, status: int
) -> None:
    """An unknown name, a repository that the hub lacks, a machine that may not ask."""
    done = pull(hub.url, tmp_path, model, **env)
    assert (done.returncode, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["code"] == code
    assert json.loads(line)["action"]


def test_a_misspelt_name_is_told_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """Not after the gigabytes of the first model."""
    assert pull(hub.url, tmp_path, "htdemucs", "htdemux").returncode == 2
    assert hub.asked == []


def test_wrong_bytes_are_one_line(hub: Hub, tmp_path: Path) -> None:
    """And nothing is left of them."""
    hub.wrong["955717e8.safetensors"] = bytes(len(WEIGHTS))
    done = pull(hub.url, tmp_path, "htdemucs")
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr)["code"] == "MODEL_LOAD_FAILED"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == len(WEIGHTS)]


def test_a_hub_that_is_away_is_one_line(tmp_path: Path) -> None:
    """The hub's client would tell of each of its attempts."""
    done = pull(f"http://127.0.0.1:{free_port()}", tmp_path, "htdemucs")
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr)["code"] == "BACKEND_NOT_READY"


def test_a_model_that_is_here_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    """What is there is not asked for again."""
    there = pull(hub.url, tmp_path, "htdemucs")
    away = pull(f"http://127.0.0.1:{free_port()}", tmp_path, "htdemucs")
    assert (away.returncode, away.stdout) == (0, there.stdout)


def test_a_directory_for_other_machines_is_filled(hub: Hub, tmp_path: Path) -> None:
    """As demucs' --repo and SOUNDFLEET_MODEL_DIR want it; the hub's cache stays as it was."""
    directory = tmp_path / "models"
    done = pull(hub.url, tmp_path / "home", "htdemucs", "htdemucs_6s", "--dir", str(directory))
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == FILES | SIX
    assert not (tmp_path / "home").exists()


def test_a_terminal_shows_a_bar(hub: Hub, tmp_path: Path) -> None:
    """With the bytes of all files, and the file that is coming."""
    hub.slow = Event()
    master, slave = pty.openpty()
    env = environment(hub.url, tmp_path, TERM="xterm", COLUMNS="120")
    process = subprocess.Popen(command("htdemucs"), env=env, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 4096):
            shown += chunk
            if b"1.5/3.0 MB" in shown:
                hub.slow.set()
    except OSError:  # Linux says so when the other side is closed
        pass
    finally:
        os.close(master)
    assert process.wait(60) == 0
    text = shown.decode()
    assert "955717e8.safetensors" in text
    assert "1.5/3.0 MB" in text
    assert "htdemucs is in " in text
