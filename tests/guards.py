"""What must hold after every test: nothing runs on, and no key lives longer than its family is allowed to."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import redis

from soundfleet_schemas import FINAL, JobStatus, Keys
from soundfleet_schemas.keys import LIFETIMES

MARK = f"TEST_PROCESS_OF={os.getpid()}-{os.urandom(6).hex()}"
"""Stands in the environment of every process that a test of this run starts, whoever its parent has become."""
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Processes that Python itself keeps until it exits."""


def mark_children() -> None:
    """Let every process that is started from now on carry the mark."""
    name, _, value = MARK.partition("=")
    os.environ[name] = value


def marked_processes() -> set[int]:
    """Ids of the living processes that this test run has started."""
    return {pid for pid in _process_ids() if _is_marked(pid)}


def _process_ids() -> list[int]:
    proc = Path("/proc")
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()] if proc.is_dir() else []


def _is_marked(pid: int) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()  # empty for a zombie
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return MARK.encode() in environment and not any(helper in command for helper in HELPERS)


def describe(pids: set[int]) -> str:
    """Name processes for a failure message."""
    lines = []
    for pid in sorted(pids):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            command = "gone meanwhile"
        lines.append(f"{pid}: {command.strip()}")
    return "; ".join(lines)


def living_threads() -> set[threading.Thread]:
    """Threads of this process, but for those that libraries keep until it exits."""
    return {thread for thread in threading.enumerate() if type(thread).__name__ != "TMonitor"}


def overlong_keys(client: redis.Redis, keys: Keys) -> list[str]:
    """Keys of a namespace that are of no known family, or would outlive what their family promises."""
    wrong = []
    for raw in client.scan_iter(match=f"{keys.prefix}*", count=1000):
        key = raw.decode()
        family, _, rest = key.removeprefix(keys.prefix).partition(":")
        if family not in LIFETIMES:
            wrong.append(f"{key} is of no family in LIFETIMES")
        elif not LIFETIMES[family][1].startswith("permanent") and client.ttl(key) == -1:
            state = client.hget(keys.job(rest), "state") if family in ("job", "events") else None
            if state is None or JobStatus(state.decode()) in FINAL:
                wrong.append(f"{key} never expires")
    return wrong
