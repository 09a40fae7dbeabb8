"""The installer: brings the files of published models to this machine when a job, or the operator, wants them.

A worker offers what is not here but could and may be (``permits``): ``offers``. The first run that needs such a model
starts one download for all that come, in a process of its own; meanwhile the backend's status is Downloading, with a
percentage, and nothing more is claimed for it. When the files are here the engine is told to look, and loads them. A
download that fails is the status Error for ``pull_again_sec``, and nothing is claimed for the backend; then it may be
tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from soundfleet_producer.settings import Settings
from soundfleet_schemas import Backend, BackendStatus, ErrorCode, ErrorInfo, SoundfleetError, error, from_info

from ..backends.contract import ModelConfig
from ..logging import Event, Log
from ..models.published import PUBLISHED, obtainable
from ..models.pull import Fetched, Told
from . import clock
from .keeper import Keeper
from .permits import Permits, read_models
from .pulling import pull_in_process

NOTICE_SEC = 60.0
"""For the engine to notice new files: it looks between two steps, and not while it loads another model."""
LOOK_EVERY_SEC = 0.05
MEGABYTE = 1_000_000

Pull = Callable[[str, bool, Told], Awaitable[None]]


class _Failure(NamedTuple):
    info: ErrorInfo
    until: float


class Installer:
    """What this worker can have, what it is fetching, and what it could not get."""

    def __init__(self, keeper: Keeper, settings: Settings, log: Log, pull: Pull = pull_in_process) -> None:
        self._keeper = keeper
        self._log = log
        self._pull = pull
        self._again_sec = settings.pull_again_sec
        self._offline = settings.offline
        config = ModelConfig(Path(settings.model_dir).expanduser() if settings.model_dir else None, settings.offline)
        self._obtainable = frozenset(name for name in PUBLISHED if obtainable(name, config))
        self._ahead = read_models(settings.pull)
        self._permits = Permits(settings)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._fetched: dict[str, Fetched] = {}
        self._listeners: dict[str, list[Told]] = {}
        self._failures: dict[str, _Failure] = {}
        self._closed = False
        self.on_change: Callable[[], None] = lambda: None
        """Called when what ``view`` returns has changed."""

    def has(self, name: str) -> bool:
        """Whether a run of this backend has nothing to wait for here."""
        return not self._is_absent(name)

    def offers(self, name: str) -> bool:
        """Whether a backend that is not installed can be claimed for: its first job brings it here."""
        wanted = self._is_absent(name) and not self._closed
        return wanted and name not in self._under_way and self._failure(name) is None

    def view(self) -> tuple[Backend, ...]:
        """The engine's backends with what this side knows of those that are not installed."""
        return tuple(self._seen(backend) for backend in self._keeper.backends.values())

    def _seen(self, backend: Backend) -> Backend:
        name = backend.backend
        if backend.status is not BackendStatus.NotInstalled or name not in self._obtainable:
            return backend
        if (bar := self._permits.bar(name, self._keeper.budget_mb)) is not None:
            return _with(backend, backend.status, bar)
        failure = self._failure(name)
        if name in self._under_way:
            fetched = self._fetched.get(name, Fetched("", 0, 0))
            return _with(backend, BackendStatus.Downloading, _words(fetched), fetched.percent)
        if failure is not None:
            return _with(backend, BackendStatus.Error, str(failure.info))
        return _with(backend, backend.status, f"its first job downloads it; or ahead: soundfleet backends pull {name}")

    def _is_absent(self, name: str) -> bool:
        """Whether a backend's files are not here and could be."""
        backend = self._keeper.backends.get(name)
        if backend is None or backend.status is not BackendStatus.NotInstalled or name not in self._obtainable:
            return False
        return self._permits.bar(name, self._keeper.budget_mb) is None

    def _failure(self, name: str) -> _Failure | None:
        failure = self._failures.get(name)
        if failure is not None and clock.now() >= failure.until:
            del self._failures[name]
            return None
        return failure

    async def ensure(self, name: str, told: Told = lambda _fetched: None) -> None:
        """Return when a backend's files are here, or when it is the engine that must say why they are not.

        ``told`` hears how far the download is. Raises what keeps the files away; an error that is retryable says
        nothing against the job. Cancelling ends the waiting, not the download: the next job will need it.
        """
        if not self._is_absent(name):
            return
        if (failure := self._failure(name)) is not None:
            raise from_info(failure.info)
        if self._closed:
            raise error(ErrorCode.BACKEND_NOT_READY, f"{name} is not here, and the worker shuts down")
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.create_task(self._install(name), name=f"pull {name}")
            task.add_done_callback(_retrieve)
            self.on_change()
        listeners = self._listeners.setdefault(name, [])
        listeners.append(told)
        try:
            await asyncio.wait({task})
        finally:
            listeners.remove(told)
        if task.cancelled():
            raise error(ErrorCode.BACKEND_NOT_READY, f"{name} is not here yet, and the worker shuts down")
        task.result()

    async def _install(self, name: str) -> None:
        self._log.info(Event.model_pulling, backend=name)
        started = clock.now()
        try:
            await self._pull(name, self._offline, lambda fetched: self._told(name, fetched))
            await self._be_noticed(name)
        except Exception as exc:  # also what the system says to a new process
            failure = _described(name, exc)
            self._failures[name] = _Failure(failure.info, clock.now() + self._again_sec)
            self._log.error(Event.model_failed, backend=name, error=str(failure), again_sec=self._again_sec)
            raise failure from exc
        else:
            total = self._fetched.get(name, Fetched("", 0, 0)).total_bytes
            self._log.info(Event.model_pulled, backend=name, bytes=total, sec=round(clock.now() - started, 3))
        finally:
            del self._under_way[name]
            self._fetched.pop(name, None)
            self.on_change()

    def _told(self, name: str, fetched: Fetched) -> None:
        before, self._fetched[name] = self._fetched.get(name), fetched
        for told in self._listeners.get(name, ()):
            told(fetched)
        if before is None or before.percent != fetched.percent:
            self.on_change()

    async def _be_noticed(self, name: str) -> None:
        """Have the engine look until it finds the files."""
        self._keeper.look_again()
        until = clock.now() + NOTICE_SEC
        while (backend := self._keeper.backends.get(name)) is not None:
            if backend.status is not BackendStatus.NotInstalled:
                return
            if clock.now() > until:
                break
            await asyncio.sleep(LOOK_EVERY_SEC)
        why = "" if backend is None else backend.message or ""
        raise error(ErrorCode.BACKEND_NOT_READY, f"{name} was pulled, and the engine does not find it: {why}")

    async def fetch_ahead(self) -> None:
        """Bring here what the operator wants before any job does; what cannot be had is logged."""
        await self._keeper.wait_ready()
        await asyncio.gather(*(self.ensure(name) for name in self._ahead), return_exceptions=True)

    async def close(self) -> None:
        """End the downloads; who waits for one hears that it did not come. What was gathered stays."""
        self._closed = True
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take the error of a download that nobody waits for any more: it was logged."""
    if not task.cancelled():
        task.exception()


def _described(name: str, exc: Exception) -> SoundfleetError:
    if isinstance(exc, SoundfleetError):
        return exc
    return error(ErrorCode.BACKEND_NOT_READY, f"{name} cannot be pulled: {type(exc).__name__}: {exc}")


def _words(fetched: Fetched) -> str:
    of = f"{fetched.done_bytes / MEGABYTE:,.0f} of {fetched.total_bytes / MEGABYTE:,.0f} MB"
    return f"{fetched.component}, {of}" if fetched.component else of if fetched.total_bytes else "asking the hub"


def _with(backend: Backend, status: BackendStatus, message: str, percent: int | None = None) -> Backend:
    return msgspec.structs.replace(backend, status=status, message=message, percent=percent)
