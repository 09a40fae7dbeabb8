"""The worked example of docs/protocol.md works: bash, redis-cli and a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from soundfleet_producer.local import RedisServer

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8").partition("## A worked example")[2]


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A private server."""
    with RedisServer(tmp_path) as server:
        yield server


def example() -> str:
    """The indented lines of the section, as a script; nobody works here, so a blocking read is cut short."""
    lines = SECTION.partition("\n## ")[0].splitlines()
    return "\n".join(line[4:] for line in lines if line.startswith("    ")).replace("BLOCK 10000", "BLOCK 50")


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("redis-cli")), reason="bash or redis-cli is missing")
def test_the_worked_example_of_the_protocol_works(redis_server: RedisServer) -> None:
    """Submitted, looked at, and cancelled, as the page says."""
    shell = f'set -e; redis-cli() {{ command redis-cli -p {redis_server.port} "$@"; }}\n'
    env = os.environ | {"REDISCLI_AUTH": redis_server.password}
    done = subprocess.run(
        ["bash", "-c", shell + example()], cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[:3] == ["created", "pending", "pending"]
    assert words[-1] == "cancelled"
    assert not re.search(r"\b(ERR|NOSCRIPT|WRONGTYPE)\b", done.stdout)
