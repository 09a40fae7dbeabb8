"""The client library: ``AsyncProducer``, the same names as ``Producer``, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import redis.asyncio

from soundfleet_schemas import (
    BackendSpec,
    DeadLetter,
    Job,
    JobEvent,
    JobRequest,
    JobResult,
    JobStatus,
    SoundfleetError,
    UploadSource,
    WorkerInfo,
)

from .connections import aconnect, aconnect_blocking
from .operations import LISTED, Operations
from .overlap import aperform_while
from .queue.exchange import aperform, unavailable
from .queue.verbs import Submitted
from .settings import Settings
from .steps import Await, Blocking, Pause, Perform, PerformWhile, Read, Step, Steps
from .storage import Storage
from .uploads import Upload
from .watching import BLOCK_SEC

T = TypeVar("T")


class AsyncProducer:
    """A client of the fleet for one event loop. Each method does what ``Producer``'s of the same name does.

    Files and object storage are handled in threads, so that the loop is never held up.
    """

    def __init__(self, settings: Settings, storage: Storage | None = None) -> None:
        self.settings = settings
        self.storage = Storage.from_settings(settings) if storage is None else storage
        self._operations = Operations(settings, self.storage)
        self._redis = aconnect(settings.redis_url)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        settings = Settings.load(env)
        return cls(settings, Storage.from_settings(settings, env))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._redis.aclose()
        self.storage.close()

    async def submit(self, request: JobRequest) -> Submitted:
        return await self._run(self._operations.submit(request))

    async def check(self, request: JobRequest) -> None:
        await self._run(self._operations.check(request))

    async def upload(self, source: Upload, filename: str | None = None) -> UploadSource:
        return await self._run(self._operations.upload(source, filename))

    async def submit_many(self, requests: Iterable[JobRequest]) -> list[Submitted | SoundfleetError]:
        return await self._run(self._operations.submit_many(requests))

    async def status(self, job_id: str) -> Job:
        return await self._run(self._operations.status(job_id))

    async def watch(
        self, job_id: str, after: str | None = None, timeout: float | None = None
    ) -> AsyncIterator[JobEvent]:
        """Close the iterator (``contextlib.aclosing``) when leaving it early, to free its connection at once."""
        steps = self._operations.watch(job_id, after, timeout)
        async with aconnect_blocking(self.settings.redis_url, BLOCK_SEC) as waiter:
            try:
                step = next(steps)
                while True:
                    if isinstance(step, JobEvent):
                        yield step
                        step = next(steps)
                        continue
                    try:
                        reply = await self._perform(step, waiter)
                    except SoundfleetError as exc:
                        step = steps.throw(exc)
                    else:
                        step = steps.send(reply)
            except StopIteration:
                return

    async def result(self, job_id: str, timeout: float | None = None) -> JobResult:
        async with aconnect_blocking(self.settings.redis_url, BLOCK_SEC) as waiter:
            return await self._run(self._operations.result(job_id, timeout), waiter)

    async def download(self, job_id: str, directory: Path | str, peaks: bool = False) -> list[Path]:
        return await self._run(self._operations.download(job_id, directory, peaks))

    async def cancel(self, job_id: str) -> JobStatus:
        return await self._run(self._operations.cancel(job_id))

    async def jobs(self, status: JobStatus | None = None, limit: int = LISTED, before: str | None = None) -> list[Job]:
        return await self._run(self._operations.jobs(status, limit, before))

    async def counts(self) -> dict[JobStatus, int]:
        return await self._run(self._operations.counts())

    async def dead_letters(self, limit: int = LISTED) -> list[DeadLetter]:
        return await self._run(self._operations.dead_letters(limit))

    async def dead_letter(self, job_id: str) -> DeadLetter:
        return await self._run(self._operations.dead_letter(job_id))

    async def redrive(self, job_id: str) -> Submitted:
        return await self._run(self._operations.redrive(job_id))

    async def redrive_all(self) -> list[Submitted | SoundfleetError]:
        return await self._run(self._operations.redrive_all())

    async def purge_dead(self) -> int:
        return await self._run(self._operations.purge_dead())

    async def workers(self) -> list[WorkerInfo]:
        return await self._run(self._operations.workers())

    async def backends(self) -> list[BackendSpec]:
        return await self._run(self._operations.backends())

    async def _run(self, steps: Steps[T], waiter: redis.asyncio.Redis | None = None) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    reply = await self._perform(step, waiter)
                except SoundfleetError as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            answer: T = end.value
            return answer

    async def _perform(self, step: Step, waiter: redis.asyncio.Redis | None) -> Any:
        match step:
            case Perform():
                return await aperform(self._redis, step.exchange)
            case PerformWhile():
                return await aperform_while(self._redis, step.exchanges, step.meanwhile)
            case Read():
                return await self._read(step)
            case Blocking():
                return await asyncio.to_thread(step.call)
            case Await():
                return await _wait(waiter or self._redis, step)
            case Pause():
                return await asyncio.sleep(step.seconds)

    async def _read(self, step: Read) -> list[Any]:
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                step.queue(pipe)
                return await pipe.execute()
        except redis.RedisError as exc:
            raise unavailable(exc) from exc


async def _wait(waiter: redis.asyncio.Redis, step: Await) -> Any:
    try:
        reply: Any = await waiter.xread({step.stream: step.after}, block=step.block_ms)
    except redis.RedisError as exc:
        raise unavailable(exc) from exc
    return reply[0][1] if reply else []
