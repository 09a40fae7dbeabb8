"""The job as readers see it, its progress and its events."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from .base import Record
from .enums import InputType, Kind, Stage
from .errors import ErrorInfo
from .options import StemSeparationOptions
from .requests import JobRequest
from .results import JobResult
from .spec import Backend
from .states import FINAL, JobStatus


class ProgressUpdate(Record, frozen=True, kw_only=True):
    """Where a run stands. Sent at least every 5 points and every 5 seconds."""

    track_id: str
    """The job's fingerprint: of a generation, the id that its track will have."""
    percent: int
    current_step: int
    total_steps: int
    eta_sec: float | None = None
    """Estimated seconds until the job is completed; None until there is something to go by."""
    stage: Stage = Stage.infer


class EventType(StrEnum):
    """What can happen to a job, as its event stream tells it."""

    submitted = "submitted"
    claimed = "claimed"
    progress = "progress"
    retry = "retry"
    """An attempt failed; another follows at ``retry_at``."""
    requeued = "requeued"
    """The delay of a retry is over, or ``worker`` handed the job back for what ``error`` says: it waits again."""
    fetched = "fetched"
    """The sources behind web addresses lie in the fleet's bucket: the job waits for its backend."""
    lost = "lost"
    """The worker stopped renewing its lease; the job waits in its lane again."""
    cancelling = "cancelling"
    """Cancel was asked for; the running worker gives the job up within a step."""
    completed = "completed"
    failed = "failed"
    cancelled = "cancelled"


TERMINAL_EVENTS = frozenset({EventType.completed, EventType.failed, EventType.cancelled})


class JobEvent(Record, frozen=True, kw_only=True):
    """One entry of a job's event stream; the same document is published to its progress channel."""

    job_id: str
    type: EventType
    at_ms: int
    """Redis clock."""
    attempt: int = 0
    worker: str = ""
    progress: ProgressUpdate | None = None
    error: ErrorInfo | None = None
    retry_at_ms: int | None = None
    id: str = ""
    """Stream id, to resume after; set by the reader."""

    @property
    def terminal(self) -> bool:
        return self.type in TERMINAL_EVENTS


class Job(Record, frozen=True, kw_only=True, omit_defaults=False):
    """Everything known of a job. Written whole, nulls too: it is what ``--json`` prints, never what Redis holds."""

    id: str
    kind: Kind
    status: JobStatus
    created_at: datetime
    updated_at: datetime
    model: str
    """The backend that serves it."""
    request: JobRequest
    input_type: InputType | None = None
    """Of a separation."""
    input_source: str | None = None
    options: StemSeparationOptions | None = None
    progress: int = 0
    stage: Stage | None = None
    result: JobResult | None = None
    error: ErrorInfo | None = None
    """Why it failed; while it is processing, why the last attempt did."""
    estimated_duration: int | None = None
    """Seconds of processing, estimated at submission."""
    actual_duration: int | None = None
    """Seconds from first claim to the end."""
    attempt: int = 0
    crashes: int = 0
    worker: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    retry_at: datetime | None = None
    ahead: int | None = None
    """How many jobs go before it; None when it does not wait in a lane."""
    cancel_requested: bool = False
    cached: bool = False

    @property
    def finished(self) -> bool:
        return self.status in FINAL


class DeadLetter(Record, frozen=True, kw_only=True):
    """Why a job, or a malformed entry, left the fleet without a result."""

    id: str
    """Stream id of the letter."""
    job_id: str
    """Empty for an entry that named no job."""
    reason: str
    """permanent, attempts, waited, crashes, expired or malformed."""
    error: ErrorInfo
    attempts: int
    crashes: int
    at_ms: int
    detail: str = ""
    """The malformed entry itself, or what is known of the last crash."""


class WorkerInfo(Record, frozen=True, kw_only=True):
    """What a worker publishes of itself; its key expires when the worker is gone."""

    id: str
    host: str
    pid: int
    device: str
    version: str
    started_at: datetime
    seen_at: datetime
    capacity: int
    """Jobs that it holds at once on its engine; 0 of one that only fetches."""
    fetch_capacity: int = 0
    """Jobs whose sources it downloads at once; 0 of one that does not fetch."""
    running: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    """Those that it claims jobs for."""
    draining: bool = False
    engine: str = "starting"
    """starting, ready, or none."""
    statuses: tuple[Backend, ...] = ()
    """Every backend as this worker sees it."""
