"""``doctor``: what could lose jobs, stop them, or make them fail, looked at from this machine."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import NamedTuple

import redis
from rich.table import Table
from rich.text import Text

from soundfleet_schemas import FETCH_WEB, BackendStatus, Limits, SoundfleetError, WorkerInfo
from soundfleet_schemas.limits import DAY_SEC

from ..client import Producer
from ..connections import connect
from ..queue.exchange import unavailable
from ..settings import Settings
from ..storage import Storage
from . import options as o
from .console import ExitCode, emit, say

OLDEST_REDIS = (6, 2)
_MARKS = {"ok": Text("✓", "green"), "warning": Text("!", "yellow"), "failed": Text("✗", "red")}


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    verdict: str
    """ok, warning or failed."""
    found: str
    action: str = ""


def doctor(as_json: o.Json = False) -> int:
    """Check Redis, the storage and the workers.

    Redis: version, eviction, durability. Storage: put, get, delete, retention.
    The exit code is 3 when something is broken; warnings do not change it.
    """
    settings = Settings.load()
    findings = []
    for finding in examine(settings):
        findings.append(finding)
        if as_json:
            emit(finding._asdict())
    if not as_json:
        say(_table(findings))
    broken = any(finding.verdict == "failed" for finding in findings)
    return ExitCode.UNAVAILABLE if broken else ExitCode.OK


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything; what is broken does not keep the rest from being looked at."""
    yield from _guarded("redis", lambda: _redis(settings))
    yield from _guarded("storage", lambda: _storage(settings))
    yield from _guarded("workers", lambda: _workers(settings))


def _guarded(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except SoundfleetError as exc:
        yield Finding(what, "failed", exc.info.message, exc.info.action)


def _redis(settings: Settings) -> Iterator[Finding]:
    with connect(settings.redis_url) as client:
        try:
            info = client.info()
            fsync = _fsync(client)
        except redis.RedisError as exc:
            raise unavailable(exc) from exc
    yield _version(info)
    yield _eviction(str(info.get("maxmemory_policy", "unknown")))
    yield _durability(bool(info.get("aof_enabled")), fsync)


def _fsync(client: redis.Redis) -> str | None:
    """The setting, or None on a managed server that keeps CONFIG to itself."""
    try:
        found: str | None = client.config_get("appendfsync").get("appendfsync")
    except redis.ResponseError:
        return None
    return found


def _version(info: dict[str, object]) -> Finding:
    server = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version >= OLDEST_REDIS:
        return Finding("redis", "ok", server)
    return Finding("redis", "failed", server, "Use Redis 6.2 or newer, or Valkey.")


def _eviction(policy: str) -> Finding:
    if policy == "noeviction":
        return Finding("eviction", "ok", policy)
    return Finding("eviction", "failed", f"{policy} may delete jobs", "Set maxmemory-policy noeviction.")


def _durability(aof: bool, fsync: str | None) -> Finding:
    if not aof:
        return Finding("durability", "warning", "no append-only file: a restart loses jobs", "Set appendonly yes.")
    if fsync == "always":
        return Finding("durability", "ok", "every acknowledged write is on disk")
    action = "Set appendfsync always if that is too much."
    return Finding("durability", "ok", f"appendfsync {fsync or 'unknown'}: a crash may lose the last second", action)


def _storage(settings: Settings) -> Iterator[Finding]:
    storage = Storage.from_settings(settings)
    key, data = f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(1024)
    try:
        storage.put_bytes(key, data, "application/octet-stream")
        same = storage.get_bytes(key) == data
        storage.delete(key)
        days = storage.expires_after_days()
    finally:
        storage.close()
    if same:
        yield Finding("storage", "ok", f"bucket {settings.bucket}: put, get, delete")
    else:
        yield Finding("storage", "failed", "an object came back changed", "Check what lies between here and S3.")
    yield retention(days, settings.limits)


def retention(days: int | None, limits: Limits) -> Finding:
    """Objects are deleted by the storage's own lifecycle rules, which must not do it before the records go."""
    wanted = limits.retain_objects_sec // DAY_SEC
    if days is None:
        action = f"Give the bucket a lifecycle rule of {wanted} days."
        return Finding("retention", "warning", "no lifecycle rule was found: objects are kept for ever", action)
    if days * DAY_SEC < limits.retain_completed_sec:
        found = f"objects expire after {days} days, before the records that name them"
        return Finding("retention", "failed", found, f"Let them live {wanted} days.")
    return Finding("retention", "ok", f"objects expire after {days} days")


def _workers(settings: Settings) -> Iterator[Finding]:
    with Producer.from_settings(settings) as fleet:
        alive = fleet.workers()
    if not alive:
        yield Finding("workers", "warning", "none is alive", "Start one: soundfleet worker")
        return
    yield Finding("workers", "ok", f"{len(alive)} alive, {sum(len(worker.running) for worker in alive)} jobs running")
    yield _fetching(alive)
    yield from _models(alive, settings.default_backend)


def _fetching(alive: list[WorkerInfo]) -> Finding:
    fetching = sum(worker.fetch_capacity > 0 and not worker.draining for worker in alive)
    if fetching:
        return Finding("fetching", "ok", f"{fetching} of them download from web addresses")
    action = f"Set SOUNDFLEET_FETCH_SLOTS on one, or start one: soundfleet worker --only {FETCH_WEB}"
    return Finding("fetching", "warning", "no worker downloads: jobs with web addresses wait", action)


def _models(alive: list[WorkerInfo], default: str) -> Iterator[Finding]:
    served = sorted({backend for worker in alive for backend in worker.backends})
    if default in served:
        yield Finding("models", "ok", f"served: {', '.join(served)}")
    else:
        action = "Start one that does; why those that run do not: soundfleet backends"
        yield Finding("models", "warning", f"no worker serves the default backend {default}", action)
    for worker in alive:
        for backend in worker.statuses:
            if backend.status is BackendStatus.Error:
                found = f"{backend.backend} on {worker.id}: {backend.message}"
                yield Finding("models", "warning", found, "See the worker's log.")


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        advice = Text(finding.action, style="dim")
        table.add_row(_MARKS[finding.verdict], Text(finding.what, "bold"), Text(finding.found), advice)
    return table
