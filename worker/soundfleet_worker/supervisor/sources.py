"""Where the file of a source lies, and how large it may be."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from redis.exceptions import RedisError

from soundfleet_producer.queue.exchange import unavailable
from soundfleet_schemas import (
    AudioSource,
    ErrorCode,
    ErrorInfo,
    JobResult,
    JobSource,
    JobStatus,
    S3Source,
    SourceError,
    UploadSource,
    error,
)

from .tools import Tools

_RESULT = msgspec.json.Decoder(JobResult)
_ERROR = msgspec.json.Decoder(ErrorInfo)


class Source(NamedTuple):
    """An object to fetch."""

    bucket: str | None
    """None is the fleet's own."""
    key: str
    max_bytes: int
    sha256: str | None = None
    """What its content must hash to, where that is known."""


class Unfinished(SourceError):
    """SOURCE_JOB_PENDING, and which job it is that a source waits for."""

    def __init__(self, job_id: str, status: JobStatus) -> None:
        super().__init__(ErrorCode.SOURCE_JOB_PENDING, f"job {job_id} is {status}")
        self.job_id = job_id


async def locate(source: AudioSource, tools: Tools) -> Source:
    """Find the object of a source that lies in a bucket.

    Raises SOURCE_NOT_FOUND, ``Unfinished``, SOURCE_JOB_FAILED, or INTERNAL_ERROR for a web address.
    """
    most = tools.limits.max_file_bytes
    match source:
        case UploadSource():
            return Source(None, source.key, most, source.sha256)
        case S3Source():
            return Source(source.bucket, source.key, most)
        case JobSource():
            return await _output_of(source, tools)
        case _:
            raise error(ErrorCode.INTERNAL_ERROR, "a web address came to an engine's worker without being fetched")


async def _output_of(source: JobSource, tools: Tools) -> Source:
    try:
        fields = await tools.redis.hmget(tools.keys.job(source.job_id), "state", "result", "error")
    except RedisError as exc:
        raise unavailable(exc) from exc
    state, result, info = fields
    if state is None:
        raise error(ErrorCode.SOURCE_NOT_FOUND, f"there is no job {source.job_id}; it may be past its retention")
    match JobStatus(state.decode()):
        case JobStatus.completed:
            return _file_of(source, _RESULT.decode(result))
        case JobStatus.failed:
            why = "" if info is None else f": {_reason(_ERROR.decode(info))}"
            raise error(ErrorCode.SOURCE_JOB_FAILED, f"job {source.job_id} has failed{why}")
        case JobStatus.cancelled:
            raise error(ErrorCode.SOURCE_JOB_FAILED, f"job {source.job_id} was cancelled")
        case status:
            raise Unfinished(source.job_id, status)


def _reason(info: ErrorInfo) -> str:
    """Why a job failed; of one that failed for want of its own source, what that one failed for."""
    return info.message if info.code is ErrorCode.SOURCE_JOB_FAILED else str(info)


def _file_of(source: JobSource, result: JobResult) -> Source:
    files = result.files
    name = source.stem or ("track" if result.track is not None else None)
    if name is None:
        raise error(ErrorCode.INVALID_SOURCE, f"job {source.job_id} has stems: {', '.join(files)}", _NAME_ONE)
    if name not in files:
        raise error(ErrorCode.SOURCE_NOT_FOUND, f"job {source.job_id} has no {name}; it has {', '.join(files)}")
    file = files[name]
    return Source(None, file.path, file.size, file.sha256 or None)  # however large: the fleet itself made it


_NAME_ONE = "Name one of them: job:ID#vocals"
