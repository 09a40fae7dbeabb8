"""Pulling a model ahead of its first job, by the hub's own client, from a hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from soundfleet_producer.local import free_port

COMMIT = "c" * 40
FILES = {"htdemucs.yaml": b"models: ['955717e8']\n", "955717e8.safetensors": b"not weights, but the hub does not care"}


class Hub(BaseHTTPRequestHandler):
    """Answers what the hub's client asks of one repository."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        body = FILES.get(self.path.removeprefix("/adefossez/HTDemucs/resolve/main/"))
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body or b"").hexdigest()}"')
        self.end_headers()
        if with_body and body is not None:
            self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a hub that has htdemucs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def pull(model: str, hub: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a home of its own."""
    return subprocess.run(
        [sys.executable, "-m", "soundfleet_producer.cli", "backends", "pull", model, "--json"],
        env=os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_pulled_model_lies_where_the_workers_look(hub: str, tmp_path: Path) -> None:
    """Every file of the bag, by its name."""
    done = pull("htdemucs", hub, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert {path.name: path.read_bytes() for path in Path(said["folder"]).iterdir()} == FILES


@pytest.mark.parametrize(
    ("model", "env", "code"),
    [
        ("no_such_model", {}, "INVALID_MODEL"),
        ("mdx", {}, "BACKEND_NOT_READY"),
        ("htdemucs", {"SOUNDFLEET_OFFLINE": "1"}, "BACKEND_NOT_READY"),
    ],
)
def test_what_cannot_be_pulled_is_one_line(
    hub: str, tmp_path: Path, model: str, env: dict[str, str], code: str
) -> None:
    """An unknown name, a file that the hub lacks, a machine that may not ask."""
    done = pull(model, hub, tmp_path, **env)
    assert done.returncode != 0
    assert done.stdout == ""
    assert json.loads(done.stderr)["code"] == code


def test_a_hub_that_is_away_is_one_line(tmp_path: Path) -> None:
    """The hub's client would tell of each of its attempts."""
    done = pull("htdemucs", f"http://127.0.0.1:{free_port()}", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr)["code"] == "BACKEND_NOT_READY"


def test_a_model_that_is_here_needs_no_hub(hub: str, tmp_path: Path) -> None:
    """What is there is not asked for again."""
    there = pull("htdemucs", hub, tmp_path)
    away = pull("htdemucs", f"http://127.0.0.1:{free_port()}", tmp_path)
    assert (away.returncode, away.stdout) == (0, there.stdout)
