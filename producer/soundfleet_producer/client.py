"""The client library: ``Producer`` with blocking calls."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import redis

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

from .connections import connect, connect_blocking
from .operations import LISTED, Operations
from .overlap import perform_while
from .queue.exchange import perform, unavailable
from .queue.verbs import Submitted
from .settings import Settings
from .steps import Await, Blocking, Pause, Perform, PerformWhile, Read, Step, Steps
from .storage import Storage
from .uploads import Upload
from .watching import BLOCK_SEC

T = TypeVar("T")


class Producer:
    """A client of the fleet; safe to share between threads.

    Every call raises QUEUE_UNAVAILABLE when Redis is away, and may be repeated: a job id is submitted once.
    """

    def __init__(self, settings: Settings, storage: Storage | None = None) -> None:
        """``storage`` is the settings' bucket with the process's AWS_* variables when None."""
        self.settings = settings
        self.storage = Storage.from_settings(settings) if storage is None else storage
        self._operations = Operations(settings, self.storage)
        self._redis = connect(settings.redis_url)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read the settings and the AWS_* variables from ``env`` (the process's own when None)."""
        settings = Settings.load(env)
        return cls(settings, Storage.from_settings(settings, env))

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
        self.storage.close()

    def submit(self, request: JobRequest) -> Submitted:
        """Check a request, upload its local files, and queue it, once per id however often it is repeated.

        A source may also be a Path, bytes or a binary file object, as of ``upload``, which type checkers prefer.
        Raises what ``validate`` raises before anything is uploaded or queued; QUEUE_FULL; JOB_CONFLICT when the id
        exists with another request; what ``upload`` raises.
        """
        return self._run(self._operations.submit(request))

    def check(self, request: JobRequest) -> None:
        """Raise what is wrong with a request, as ``submit`` would; submit nothing."""
        self._run(self._operations.check(request))

    def upload(self, source: Upload, filename: str | None = None) -> UploadSource:
        """Store a file under its content hash, unless it is there, and return the source that requests may name.

        ``source`` is a path, the bytes, or a binary file object: one that can be rewound is read from its beginning and
        left where it was, any other up to its end. ``filename`` is shown in its place. Raises AUDIO_EMPTY,
        FILE_TOO_LARGE, SOURCE_NOT_FOUND, SOURCE_FORBIDDEN, INVALID_SOURCE, STORAGE_UNAVAILABLE, STORAGE_REFUSED.
        """
        return self._run(self._operations.upload(source, filename))

    def submit_many(self, requests: Iterable[JobRequest]) -> list[Submitted | SoundfleetError]:
        """Submit many in few round trips; an error stands in the place of its request and stops no other.

        Raises only QUEUE_UNAVAILABLE: then repeat the call, with the same requests.
        """
        return self._run(self._operations.submit_many(requests))

    def status(self, job_id: str) -> Job:
        """Everything known of a job. Raises JOB_NOT_FOUND."""
        return self._run(self._operations.status(job_id))

    def watch(self, job_id: str, after: str | None = None, timeout: float | None = None) -> Iterator[JobEvent]:
        """Follow a job's events up to the terminal one, whenever they happened.

        To resume, give the ``id`` of the last event seen as ``after``. Outlives a restart of Redis of up to a minute.
        Raises JOB_NOT_FOUND, and RESULT_TIMEOUT when ``timeout`` seconds pass without the terminal event.
        """
        steps = self._operations.watch(job_id, after, timeout)
        with connect_blocking(self.settings.redis_url, BLOCK_SEC) as waiter:
            try:
                step = next(steps)
                while True:
                    if isinstance(step, JobEvent):
                        yield step
                        step = next(steps)
                        continue
                    try:
                        reply = self._perform(step, waiter)
                    except SoundfleetError as exc:
                        step = steps.throw(exc)
                    else:
                        step = steps.send(reply)
            except StopIteration:
                return

    def result(self, job_id: str, timeout: float | None = None) -> JobResult:
        """Wait for a job's result, for ``timeout`` seconds or as long as it takes, and mint the addresses of its files.

        Raises the job's own error when it failed, GENERATION_CANCELLED or SEPARATION_CANCELLED, RESULT_TIMEOUT.
        """
        with connect_blocking(self.settings.redis_url, BLOCK_SEC) as waiter:
            return self._run(self._operations.result(job_id, timeout), waiter)

    def download(self, job_id: str, directory: Path | str, peaks: bool = False) -> list[Path]:
        """Download a completed job's files and ``manifest.json`` into ``directory``; return their paths.

        ``peaks`` brings ``<stem>.peaks.json`` as well: the waveforms, for players.

        Each appears only when it is whole and has the size and SHA-256 that the result names. Raises
        JOB_NOT_FINISHED, and the job's own error when it failed.
        """
        return self._run(self._operations.download(job_id, directory, peaks))

    def cancel(self, job_id: str) -> JobStatus:
        """Cancel a job and return its state: a running one is still ``processing`` and stops within a step."""
        return self._run(self._operations.cancel(job_id))

    def jobs(self, status: JobStatus | None = None, limit: int = LISTED, before: str | None = None) -> list[Job]:
        """The newest jobs first; ``before`` is the id of the last job of the page before."""
        return self._run(self._operations.jobs(status, limit, before))

    def counts(self) -> dict[JobStatus, int]:
        """How many jobs are in each state, as far back as their records are kept."""
        return self._run(self._operations.counts())

    def dead_letters(self, limit: int = LISTED) -> list[DeadLetter]:
        """The newest dead letters first."""
        return self._run(self._operations.dead_letters(limit))

    def dead_letter(self, job_id: str) -> DeadLetter:
        """The dead letter of a failed job. Raises JOB_NOT_FOUND when there is none (any more)."""
        return self._run(self._operations.dead_letter(job_id))

    def redrive(self, job_id: str) -> Submitted:
        """Submit a failed job's request again as a new job, whose ``retried_from`` names the failed one."""
        return self._run(self._operations.redrive(job_id))

    def redrive_all(self) -> list[Submitted | SoundfleetError]:
        """Redrive the jobs of the newest 1,000 dead letters."""
        return self._run(self._operations.redrive_all())

    def purge_dead(self) -> int:
        """Delete every dead letter; return how many. The failed jobs' records stay until their retention."""
        return self._run(self._operations.purge_dead())

    def workers(self) -> list[WorkerInfo]:
        """The workers that are alive."""
        return self._run(self._operations.workers())

    def backends(self) -> list[BackendSpec]:
        """The backends of the project, and foreign ones that workers have published."""
        return self._run(self._operations.backends())

    def _run(self, steps: Steps[T], waiter: redis.Redis | None = None) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    reply = self._perform(step, waiter)
                except SoundfleetError as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _perform(self, step: Step, waiter: redis.Redis | None) -> Any:
        match step:
            case Perform():
                return perform(self._redis, step.exchange)
            case PerformWhile():
                return perform_while(self._redis, step.exchanges, step.meanwhile)
            case Read():
                return self._read(step)
            case Blocking():
                return step.call()
            case Await():
                return _wait(waiter or self._redis, step)
            case Pause():
                return time.sleep(step.seconds)

    def _read(self, step: Read) -> list[Any]:
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                step.queue(pipe)
                return pipe.execute()
        except redis.RedisError as exc:
            raise unavailable(exc) from exc


def _wait(waiter: redis.Redis, step: Await) -> Any:
    try:
        reply: Any = waiter.xread({step.stream: step.after}, block=step.block_ms)
    except redis.RedisError as exc:
        raise unavailable(exc) from exc
    return reply[0][1] if reply else []
