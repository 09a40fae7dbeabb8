"""Reading what the verbs wrote: job hashes, events, dead letters, workers and foreign backends.

What a newer version wrote is borne: unknown fields are passed over, an unknown event is left out, an unknown stage is
none, an unknown error code is INTERNAL_ERROR with its document as the message.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from soundfleet_schemas import (
    FETCH,
    FINAL,
    BackendSpec,
    DeadLetter,
    ErrorCode,
    ErrorInfo,
    EventType,
    Job,
    JobEvent,
    JobResult,
    JobStatus,
    Record,
    SeparationRequest,
    SoundfleetError,
    Stage,
    WorkerInfo,
    backend_of,
    decode_request,
    describe_source,
    error,
    kind_of,
    parse_source,
)
from soundfleet_schemas.sources import LocalFile

Fields = Mapping[bytes, bytes]
Entry = tuple[bytes, Fields]
T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVENT = msgspec.json.Decoder(JobEvent)
_RESULT = msgspec.json.Decoder(JobResult)
_ERROR = msgspec.json.Decoder(ErrorInfo)
_WORKER = msgspec.json.Decoder(WorkerInfo)
_BACKEND = msgspec.json.Decoder(BackendSpec)


class _Tag(Record, frozen=True):
    """What a request asks for, whatever else is in it."""

    kind: str = ""


_TAG = msgspec.json.Decoder(_Tag)
FIRST_EVENT = "0-1"
"""Id of the ``submitted`` event, which no stream holds: before every id that a server gives."""
_ENDINGS = {
    JobStatus.completed: EventType.completed,
    JobStatus.failed: EventType.failed,
    JobStatus.cancelled: EventType.cancelled,
}


def read_job(job_id: str, fields: Fields) -> Job:
    """Read a job's hash. Raises JOB_NOT_FOUND when it is empty, INVALID_MESSAGE when a newer version wrote it."""
    if b"state" not in fields or b"request" not in fields:
        raise error(ErrorCode.JOB_NOT_FOUND, f"there is no job {job_id}")
    try:
        return _job(job_id, fields)
    except SoundfleetError:
        raise
    except (msgspec.ValidationError, ValueError) as exc:  # the second: a word that no enum here holds
        message = f"the record of job {job_id} cannot be read: {exc}"
        raise error(ErrorCode.INVALID_MESSAGE, message, "Upgrade this client.") from exc


def _job(job_id: str, fields: Fields) -> Job:
    request = decode_request(fields[b"request"])
    input_type, input_source, options = None, None, None
    if isinstance(request, SeparationRequest):
        options = request.options
        source = parse_source(request.source) if isinstance(request.source, str) else request.source
        if not isinstance(source, LocalFile):
            input_type, input_source = describe_source(source)
    result = _document(_RESULT, fields.get(b"result"))
    cached = b"cached" in fields or (result is not None and result.cached)
    created_at, started_at, finished_at = (
        _time(fields.get(name)) for name in (b"created_at", b"started_at", b"finished_at")
    )
    return Job(
        id=job_id,
        kind=kind_of(request),
        status=JobStatus(fields[b"state"].decode()),
        created_at=created_at or _EPOCH,
        updated_at=_time(fields.get(b"updated_at")) or created_at or _EPOCH,
        model=backend_of(request),
        request=request,
        input_type=input_type,
        input_source=input_source,
        options=options,
        progress=int(fields.get(b"progress", 0)),
        stage=_stage(fields.get(b"stage", b"")),
        result=msgspec.structs.replace(result, job_id=job_id, cached=True) if result is not None and cached else result,
        error=_error(fields.get(b"error")),
        estimated_duration=int(fields[b"estimated"]) if int(fields.get(b"estimated", 0)) else None,
        actual_duration=None if finished_at is None or started_at is None else _seconds(finished_at - started_at),
        attempt=int(fields.get(b"attempt", 0)),
        crashes=int(fields.get(b"crashes", 0)),
        worker=fields[b"worker"].decode() if b"worker" in fields else None,
        started_at=started_at,
        finished_at=finished_at,
        retry_at=_time(fields.get(b"retry_at")),
        cancel_requested=b"cancel" in fields,
        cached=cached,
    )


def read_kind(lane: bytes, request: bytes | None) -> str:
    """What a job does: its lane says it, or, while its sources are being fetched, its request."""
    kind = lane.decode().partition(".")[0]
    if kind != FETCH or request is None:
        return kind
    try:
        return _TAG.decode(request).kind
    except msgspec.DecodeError:
        return ""


def read_events(entries: Iterable[Entry]) -> list[JobEvent]:
    """Read entries of a job's event stream, each event with its stream id; those of an unknown kind are left out."""
    events = []
    for entry_id, fields in entries:
        try:
            event = _EVENT.decode(fields[b"event"])
        except msgspec.ValidationError:
            continue
        events.append(msgspec.structs.replace(event, id=entry_id.decode()))
    return events


def first_event(job_id: str, created_at_ms: int) -> JobEvent:
    """The ``submitted`` event, which is not stored: the job's own record says when it was."""
    return JobEvent(job_id=job_id, type=EventType.submitted, at_ms=created_at_ms, id=FIRST_EVENT)


def last_event(job_id: str, fields: Fields) -> JobEvent:
    """The terminal event of a finished job, from its record: for a job whose event stream is gone."""
    status = JobStatus(fields[b"state"].decode())
    if status not in FINAL:
        raise error(ErrorCode.JOB_NOT_FINISHED, f"job {job_id} is {status}")
    at_ms = int(fields.get(b"finished_at", 0))
    return JobEvent(
        job_id=job_id,
        type=_ENDINGS[status],
        at_ms=at_ms,
        attempt=int(fields.get(b"attempt", 0)),
        error=None if status is JobStatus.completed else _error(fields.get(b"error")),
        id=f"{at_ms}-0",
    )


def read_letter(entry: Entry) -> DeadLetter:
    """Read one entry of the stream of dead letters."""
    entry_id, fields = entry
    return DeadLetter(
        id=entry_id.decode(),
        job_id=fields[b"job"].decode(errors="replace"),
        reason=fields[b"reason"].decode(),
        error=_known_error(fields[b"error"]),
        attempts=int(fields[b"attempts"]),
        crashes=int(fields[b"crashes"]),
        at_ms=int(fields[b"at_ms"]),
        detail=fields[b"detail"].decode(errors="replace"),
    )


def read_workers(documents: Iterable[bytes | None]) -> list[WorkerInfo]:
    """Read what workers published of themselves; those that are gone, or that no client here can read, are left out."""
    return _readable(_WORKER, documents)


def read_backends(documents: Iterable[bytes | None]) -> list[BackendSpec]:
    """Read what workers published of foreign backends, as far as it can be read here."""
    return _readable(_BACKEND, documents)


def _readable(decoder: msgspec.json.Decoder[T], documents: Iterable[bytes | None]) -> list[T]:
    read = []
    for document in documents:
        with suppress(msgspec.DecodeError):
            if document is not None:
                read.append(decoder.decode(document))
    return read


def _stage(raw: bytes) -> Stage | None:
    """A stage of a newer version is none: what became of the job does not depend on it."""
    try:
        return Stage(raw.decode())
    except ValueError:
        return None


def _error(raw: bytes | None) -> ErrorInfo | None:
    return None if raw is None else _known_error(raw)


def _known_error(raw: bytes) -> ErrorInfo:
    try:
        return _ERROR.decode(raw)
    except msgspec.ValidationError:
        return error(ErrorCode.INTERNAL_ERROR, raw.decode(errors="replace"), "Upgrade this client.").info


def _document(decoder: msgspec.json.Decoder[T], raw: bytes | None) -> T | None:
    return None if raw is None else decoder.decode(raw)


def _time(ms: bytes | None) -> datetime | None:
    return None if ms is None else _EPOCH + timedelta(milliseconds=int(ms))


def _seconds(span: timedelta) -> int:
    return math.ceil(span.total_seconds())


__all__ = [
    "FIRST_EVENT",
    "Entry",
    "Fields",
    "first_event",
    "last_event",
    "read_backends",
    "read_events",
    "read_job",
    "read_kind",
    "read_letter",
    "read_workers",
]
