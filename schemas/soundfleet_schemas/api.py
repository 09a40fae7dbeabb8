"""The transfer objects of the HTTP face; camelCase on the wire, as the data model writes them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from .enums import Quality
from .errors import ErrorCode, error
from .jobs import Job
from .options import StemSeparationOptions
from .results import JobResult
from .states import JobStatus


class StemifyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Ask for stems of an uploaded file or of a YouTube video: exactly one of the two."""

    file: bytes | None = None
    youtube_url: str | None = None
    options: StemSeparationOptions = StemSeparationOptions(quality=Quality.balanced)

    def check(self) -> None:
        """Raise INVALID_SOURCE unless exactly one of ``file`` and ``youtubeUrl`` is given."""
        if (self.file is None) == (self.youtube_url is None):
            raise error(ErrorCode.INVALID_SOURCE, "give exactly one of file and youtubeUrl")


class StemifyResponse(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The job that was made of a StemifyRequest."""

    job_id: str
    status: JobStatus
    estimated_duration: int
    """Seconds."""
    message: str


class JobStatusResponse(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A job as the HTTP face shows it."""

    job_id: str
    status: JobStatus
    progress: int
    created_at: datetime
    updated_at: datetime
    result: JobResult | None = None
    error: str | None = None

    @classmethod
    def of(cls, job: Job) -> JobStatusResponse:
        """Show a job."""
        return cls(
            job_id=job.id,
            status=job.status,
            progress=job.progress,
            created_at=job.created_at,
            updated_at=job.updated_at,
            result=job.result,
            error=None if job.error is None else str(job.error),
        )
