"""What a client can ask of the fleet, each operation once and without I/O (see ``steps``)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from soundfleet_schemas import (
    CATALOG,
    BackendSpec,
    DeadLetter,
    ErrorCode,
    Job,
    JobRequest,
    JobResult,
    JobStatus,
    Keys,
    Kind,
    LocalFile,
    SoundfleetError,
    StemSeparationOptions,
    UploadSource,
    WorkerInfo,
    error,
)
from soundfleet_schemas.options import model_of

from . import drafts, outputs, watching
from .drafts import Checked
from .flight import Flight
from .queue import place as places
from .queue import verbs
from .queue.records import Fields, read_backends, read_job, read_kind, read_letter, read_workers
from .queue.verbs import Draft, Submitted
from .settings import Settings
from .steps import Blocking, EventSteps, Perform, PerformWhile, Read, Steps
from .storage import Storage
from .uploads import Upload
from .watching import Deadline

LISTED = 50
"""Entries of a list that names no limit."""
FLIGHT = 5 * verbs.BATCH
"""Requests that are sent together, while the following ones are checked."""
LETTERS_AT_ONCE = 1000


class Operations:
    """The operations of a client with these settings and this storage."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self.settings = settings
        self.storage = storage
        self.keys = Keys(settings.namespace)

    def check(self, request: JobRequest) -> Steps[None]:
        foreign = yield from self._foreign([request])
        with drafts.preparing():
            drafts.check(request, self.settings, foreign)

    def submit(self, request: JobRequest) -> Steps[Submitted]:
        foreign = yield from self._foreign([request])
        with drafts.preparing():
            checked = drafts.check(request, self.settings, foreign)
        draft = yield from self._finish(checked)
        limits = self.settings.limits
        exchange = verbs.submit(self.keys, draft.request, draft.fingerprint, limits, draft.estimated_sec)
        submitted: Submitted = yield Perform(exchange)
        return submitted

    def submit_many(self, requests: Iterable[JobRequest]) -> Steps[list[Submitted | SoundfleetError]]:
        asked = list(requests)
        foreign = yield from self._foreign(asked)
        parts = [asked[start : start + FLIGHT] for start in range(0, len(asked), FLIGHT)]
        answers: list[Submitted | SoundfleetError] = []
        flight = self._prepare(parts[0], foreign) if parts else None
        for following in [*parts[1:], []]:
            if flight is not None:
                yield from self._upload(flight)
                prepare = partial(self._prepare, following, foreign)
                replies, following_flight = yield PerformWhile(flight.exchanges(), prepare)
                answers += flight.answers(replies)
                flight = following_flight
        return answers

    def _prepare(self, requests: list[JobRequest], foreign: Mapping[str, BackendSpec]) -> Flight:
        """Check requests, and finish those that upload nothing; without I/O."""
        flight = Flight(self.keys, self.settings.limits)
        for request in requests:
            try:
                with drafts.preparing():
                    checked = drafts.check(request, self.settings, foreign)
                    flight.places.append(checked if checked.uploads else drafts.finish(checked, {}))
            except SoundfleetError as exc:
                flight.places.append(exc)
        if not any(isinstance(place, Checked) for place in flight.places):
            flight.exchanges()
        return flight

    def _upload(self, flight: Flight) -> Steps[None]:
        for position, place in enumerate(flight.places):
            if isinstance(place, Checked):
                try:
                    flight.places[position] = yield from self._finish(place)
                except SoundfleetError as exc:
                    flight.places[position] = exc

    def _finish(self, checked: Checked) -> Steps[Draft]:
        stored = {}
        for name, source in checked.uploads.items():
            stored[name] = yield Blocking(partial(self._store, source))
        return drafts.finish(checked, stored)

    def upload(self, source: Upload, filename: str | None) -> Steps[UploadSource]:
        stored: UploadSource = yield Blocking(partial(self._store, source, filename))
        return stored

    @drafts.preparing()
    def _store(self, source: Upload | LocalFile, filename: str | None = None) -> UploadSource:
        return self.storage.upload_source(source, self.settings.limits.max_file_bytes, filename)

    def _foreign(self, requests: list[JobRequest]) -> Steps[dict[str, BackendSpec]]:
        """What workers have published of the backends that the requests name and the catalog does not hold."""
        unknown = sorted({name for request in requests if (name := self._named(request)) not in CATALOG})
        if not unknown:
            return {}
        (documents,) = yield Read(lambda pipe: pipe.hmget(self.keys.backends, unknown))
        return {spec.backend: spec for spec in read_backends(documents)}

    def _named(self, request: JobRequest) -> str:
        """The backend that a request names, before anything of it is checked."""
        options = getattr(request, "options", None)
        if isinstance(options, StemSeparationOptions):
            return str(model_of(options))
        return str(getattr(request, "backend", None) or self.settings.default_backend)

    def status(self, job_id: str) -> Steps[Job]:
        (fields,) = yield Read(lambda pipe: pipe.hgetall(self.keys.job(job_id)))
        job = read_job(job_id, fields)
        if job.finished or job.worker is not None:
            return job
        ahead = yield Perform(places.place(self.keys, job_id))
        return job if ahead is None else msgspec.structs.replace(job, ahead=ahead)

    def watch(self, job_id: str, after: str | None, timeout_sec: float | None) -> EventSteps:
        return watching.watch(self.keys, job_id, after, Deadline(timeout_sec, time.monotonic))

    def result(self, job_id: str, timeout_sec: float | None) -> Steps[JobResult]:
        job = yield from watching.finished(self.keys, job_id, Deadline(timeout_sec, time.monotonic))
        result: JobResult = yield Blocking(partial(outputs.with_urls, outputs.result_of(job), self.storage))
        return result

    def download(self, job_id: str, directory: Path | str, peaks: bool) -> Steps[list[Path]]:
        job = yield from self.status(job_id)
        paths: list[Path] = yield Blocking(
            partial(outputs.download_all, outputs.result_of(job), Path(directory), self.storage, peaks)
        )
        return paths

    def cancel(self, job_id: str) -> Steps[JobStatus]:
        ((lane, request),) = yield Read(lambda pipe: pipe.hmget(self.keys.job(job_id), "lane", "request"))
        if lane is None:
            raise _no_job(job_id)
        generation = read_kind(lane, request) == Kind.generate
        code = ErrorCode.GENERATION_CANCELLED if generation else ErrorCode.SEPARATION_CANCELLED
        info = error(code, "the job was cancelled while it waited").info
        status: JobStatus = yield Perform(verbs.cancel(self.keys, job_id, info, self.settings.limits))
        return status

    def jobs(self, status: JobStatus | None, limit: int, before: str | None) -> Steps[list[Job]]:
        index, start = self.keys.jobs(status), 0
        if before is not None:
            (rank,) = yield Read(lambda pipe: pipe.zrevrank(index, before))
            if rank is None:
                raise _no_job(before)
            start = rank + 1
        (ids,) = yield Read(lambda pipe: pipe.zrevrange(index, start, start + limit - 1))
        records = yield Read(lambda pipe: [pipe.hgetall(self.keys.job(job_id.decode())) for job_id in ids])
        listed = (_readable(job_id.decode(), fields) for job_id, fields in zip(ids, records, strict=True))
        return [job for job in listed if job is not None]

    def counts(self) -> Steps[dict[JobStatus, int]]:
        sizes = yield Read(lambda pipe: [pipe.zcard(self.keys.jobs(status)) for status in JobStatus])
        return dict(zip(JobStatus, sizes, strict=True))

    def dead_letters(self, limit: int) -> Steps[list[DeadLetter]]:
        (entries,) = yield Read(lambda pipe: pipe.xrevrange(self.keys.dead, count=limit))
        return [read_letter(entry) for entry in entries]

    def dead_letter(self, job_id: str) -> Steps[DeadLetter]:
        (letter_id,) = yield Read(lambda pipe: pipe.hget(self.keys.job(job_id), "letter"))
        entries: list[Any] = []
        if letter_id is not None:
            (entries,) = yield Read(lambda pipe: pipe.xrange(self.keys.dead, min=letter_id, max=letter_id))
        if not entries:
            raise error(ErrorCode.JOB_NOT_FOUND, f"job {job_id} has no dead letter", "List them: soundfleet dead list")
        return read_letter(entries[0])

    def redrive(self, job_id: str) -> Steps[Submitted]:
        job = yield from self.status(job_id)
        return (yield from self.submit(_again(job)))

    def redrive_all(self) -> Steps[list[Submitted | SoundfleetError]]:
        letters = yield from self.dead_letters(LETTERS_AT_ONCE)
        ids = [letter.job_id for letter in letters if letter.job_id]
        records = yield Read(lambda pipe: [pipe.hgetall(self.keys.job(job_id)) for job_id in ids])
        jobs = [_readable(job_id, fields) for job_id, fields in zip(ids, records, strict=True)]
        return (yield from self.submit_many(_again(job) for job in jobs if job is not None))

    def purge_dead(self) -> Steps[int]:
        purged = 0
        while True:
            (entries,) = yield Read(lambda pipe: pipe.xrange(self.keys.dead, count=LETTERS_AT_ONCE))
            if not entries:
                return purged
            ids = [entry_id for entry_id, _ in entries]
            (deleted,) = yield Read(partial(_delete_letters, self.keys.dead, ids))
            purged += deleted

    def workers(self) -> Steps[list[WorkerInfo]]:
        (ids,) = yield Read(lambda pipe: pipe.zrange(self.keys.workers, 0, -1))
        documents = yield Read(lambda pipe: [pipe.get(self.keys.worker(worker.decode())) for worker in ids])
        return read_workers(documents)

    def backends(self) -> Steps[list[BackendSpec]]:
        (published,) = yield Read(lambda pipe: pipe.hvals(self.keys.backends))
        foreign = {spec.backend: spec for spec in read_backends(published)}
        return list((foreign | CATALOG).values())


def _delete_letters(stream: str, ids: list[bytes], pipe: Any) -> None:
    pipe.xdel(stream, *ids)


def _again(job: Job) -> JobRequest:
    """The request of a failed job under the id that its redrive always has, so that a repeat makes nothing new."""
    new_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"soundfleet:redrive:{job.id}"))
    again: JobRequest = msgspec.structs.replace(job.request, id=new_id, retried_from=job.id, expires_at=None)
    return again


def _readable(job_id: str, fields: Fields) -> Job | None:
    """A job of a list; None for one that has expired meanwhile, or whose request no client can read."""
    try:
        return read_job(job_id, fields)
    except SoundfleetError:
        return None


def _no_job(job_id: str) -> SoundfleetError:
    return error(ErrorCode.JOB_NOT_FOUND, f"there is no job {job_id}")
