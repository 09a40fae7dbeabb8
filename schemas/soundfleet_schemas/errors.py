"""Every error of the fleet: one code, one sentence, what to do, and whether a retry can help.

    SoundfleetError
    ├── InvalidRequest     the request itself must change          (never retried)
    ├── SourceError        the audio of a separation               (retried only when a fetch may succeed later)
    ├── QueueError         the queue refused or does not know      (caller's side)
    ├── ModelError         a backend could not load or run
    ├── StorageError       S3 refused or is away
    ├── WorkerError        a crash, a time limit, a cancellation
    └── SettingsError      the configuration of this process

The tables below are the whole truth: an exception's class and ``retryable`` follow from its code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from .base import Record


class ErrorCode(StrEnum):
    """Codes of the data models, and new ones in their style."""

    INVALID_MESSAGE = "INVALID_MESSAGE"
    INVALID_PROMPT = "INVALID_PROMPT"
    INVALID_DURATION = "INVALID_DURATION"
    INVALID_SEED = "INVALID_SEED"
    INVALID_BACKEND = "INVALID_BACKEND"
    INVALID_MODEL = "INVALID_MODEL"
    INVALID_INFERENCE_STEPS = "INVALID_INFERENCE_STEPS"
    INVALID_GUIDANCE_SCALE = "INVALID_GUIDANCE_SCALE"
    INVALID_SCHEDULER = "INVALID_SCHEDULER"
    INVALID_OPTION = "INVALID_OPTION"
    INVALID_SOURCE = "INVALID_SOURCE"
    INVALID_JOB_ID = "INVALID_JOB_ID"

    SOURCE_NOT_FOUND = "SOURCE_NOT_FOUND"
    SOURCE_FORBIDDEN = "SOURCE_FORBIDDEN"
    SOURCE_UNAVAILABLE = "SOURCE_UNAVAILABLE"
    SOURCE_JOB_FAILED = "SOURCE_JOB_FAILED"
    SOURCE_JOB_PENDING = "SOURCE_JOB_PENDING"
    SOURCE_PRIVATE = "SOURCE_PRIVATE"
    SOURCE_REMOVED = "SOURCE_REMOVED"
    SOURCE_LIVE = "SOURCE_LIVE"
    SOURCE_GEO_BLOCKED = "SOURCE_GEO_BLOCKED"
    SOURCE_AGE_RESTRICTED = "SOURCE_AGE_RESTRICTED"
    SOURCE_BOT_CHECK = "SOURCE_BOT_CHECK"
    UNSUPPORTED_SOURCE = "UNSUPPORTED_SOURCE"
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    AUDIO_CORRUPT = "AUDIO_CORRUPT"
    AUDIO_EMPTY = "AUDIO_EMPTY"
    AUDIO_TOO_LONG = "AUDIO_TOO_LONG"
    FILE_TOO_LARGE = "FILE_TOO_LARGE"
    DECODE_LIMIT_EXCEEDED = "DECODE_LIMIT_EXCEEDED"

    QUEUE_FULL = "QUEUE_FULL"
    QUEUE_UNAVAILABLE = "QUEUE_UNAVAILABLE"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    JOB_NOT_FINISHED = "JOB_NOT_FINISHED"
    JOB_CONFLICT = "JOB_CONFLICT"
    JOB_EXPIRED = "JOB_EXPIRED"
    MALFORMED_ENTRY = "MALFORMED_ENTRY"
    ILLEGAL_TRANSITION = "ILLEGAL_TRANSITION"
    RESULT_TIMEOUT = "RESULT_TIMEOUT"

    BACKEND_NOT_READY = "BACKEND_NOT_READY"
    MODEL_LOAD_FAILED = "MODEL_LOAD_FAILED"
    MODEL_INFERENCE_FAILED = "MODEL_INFERENCE_FAILED"
    OUTPUT_SILENT = "OUTPUT_SILENT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DEVICE_FAILED = "DEVICE_FAILED"

    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    STORAGE_REFUSED = "STORAGE_REFUSED"

    GENERATION_CANCELLED = "GENERATION_CANCELLED"
    SEPARATION_CANCELLED = "SEPARATION_CANCELLED"
    TIME_LIMIT_EXCEEDED = "TIME_LIMIT_EXCEEDED"
    WORKER_CRASHED = "WORKER_CRASHED"
    SCRATCH_FULL = "SCRATCH_FULL"
    INTERNAL_ERROR = "INTERNAL_ERROR"

    INVALID_SETTING = "INVALID_SETTING"
    MISSING_DEPENDENCY = "MISSING_DEPENDENCY"


class ErrorInfo(Record, frozen=True, kw_only=True, omit_defaults=False):
    """An error as it travels: in job records, events, dead letters and ``--json`` output."""

    code: ErrorCode
    message: str
    action: str
    """What the reader can do about it, as one sentence."""
    retryable: bool = False

    def __str__(self) -> str:
        return f"{self.code}: {self.message} {self.action}".rstrip()


class SoundfleetError(Exception):
    """Base of every error that this project raises on purpose."""

    def __init__(self, code: ErrorCode, message: str, action: str | None = None) -> None:
        spec = ERRORS[code]
        self.info = ErrorInfo(
            code=code,
            message=_sentence(message),
            action=spec.action if action is None else _sentence(action),
            retryable=spec.retryable,
        )
        super().__init__(str(self.info))

    @property
    def code(self) -> ErrorCode:
        return self.info.code

    def __reduce__(self) -> tuple[object, ...]:
        return (error, (self.info.code, self.info.message, self.info.action))


class InvalidRequest(SoundfleetError, ValueError):
    """The request must change."""


class SourceError(SoundfleetError):
    """The audio of a separation cannot be had, read or accepted."""


class QueueError(SoundfleetError):
    """The queue refused, is away, or does not know the job."""


class ModelError(SoundfleetError):
    """A backend could not load or run."""


class StorageError(SoundfleetError):
    """Object storage refused or is away."""


class WorkerError(SoundfleetError):
    """The run ended by a crash, a time limit or a cancellation."""


class SettingsError(SoundfleetError):
    """This process is configured wrongly."""


class ErrorSpec(NamedTuple):
    """What follows from a code: its exception class, whether a retry can help, and the default advice."""

    raises: type[SoundfleetError]
    retryable: bool
    action: str


def error(code: ErrorCode, message: str, action: str | None = None) -> SoundfleetError:
    """Build the exception that belongs to ``code``; the message and the advice become full sentences."""
    return ERRORS[code].raises(code, message, action)


def from_info(info: ErrorInfo) -> SoundfleetError:
    """Rebuild the exception that an ``ErrorInfo`` describes."""
    return error(info.code, info.message, info.action)


def show(value: object, at_most: int = 80) -> str:
    """Quote a caller's value for a message: printable, on one line, shortened when it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if not text or text[-1] in ".!?" else text + "."


_C = ErrorCode
ERRORS: dict[ErrorCode, ErrorSpec] = {
    _C.INVALID_MESSAGE: ErrorSpec(InvalidRequest, False, "Correct the message; docs/protocol.md describes it."),
    _C.INVALID_PROMPT: ErrorSpec(InvalidRequest, False, "Give a prompt of 1 to 512 characters."),
    _C.INVALID_DURATION: ErrorSpec(InvalidRequest, False, "Give a duration within the backend's range."),
    _C.INVALID_SEED: ErrorSpec(InvalidRequest, False, "Give an integer from 0 to 2^64 - 1, or leave it out."),
    _C.INVALID_BACKEND: ErrorSpec(InvalidRequest, False, "List the backends with: soundfleet backends"),
    _C.INVALID_MODEL: ErrorSpec(InvalidRequest, False, "List the models with: soundfleet backends"),
    _C.INVALID_INFERENCE_STEPS: ErrorSpec(InvalidRequest, False, "Give 1 to 200 steps."),
    _C.INVALID_GUIDANCE_SCALE: ErrorSpec(InvalidRequest, False, "Give a scale from 1.0 to 30.0."),
    _C.INVALID_SCHEDULER: ErrorSpec(InvalidRequest, False, "Use euler, heun or pingpong."),
    _C.INVALID_OPTION: ErrorSpec(InvalidRequest, False, "Correct or leave out the option."),
    _C.INVALID_SOURCE: ErrorSpec(InvalidRequest, False, "Give a file, an s3:// or https:// address, or job:ID."),
    _C.INVALID_JOB_ID: ErrorSpec(InvalidRequest, False, "Give a UUID, or leave the id out."),
    _C.SOURCE_NOT_FOUND: ErrorSpec(SourceError, False, "Check the name of the source."),
    _C.SOURCE_FORBIDDEN: ErrorSpec(SourceError, False, "Use a source that the fleet may read."),
    _C.SOURCE_UNAVAILABLE: ErrorSpec(SourceError, True, "Try again later."),
    _C.SOURCE_JOB_FAILED: ErrorSpec(SourceError, False, "Submit that job again first."),
    _C.SOURCE_JOB_PENDING: ErrorSpec(SourceError, True, "Submit this job when that one is completed."),
    _C.SOURCE_PRIVATE: ErrorSpec(
        SourceError, False, "Upload the file, or let the operator set SOUNDFLEET_VIDEO_COOKIES of a member's account."
    ),
    _C.SOURCE_REMOVED: ErrorSpec(SourceError, False, "Give another video, or upload the file."),
    _C.SOURCE_LIVE: ErrorSpec(SourceError, False, "Submit it again when its recording can be watched."),
    _C.SOURCE_GEO_BLOCKED: ErrorSpec(
        SourceError, False, "Upload the file, or run a worker that fetches in a country where it may be watched."
    ),
    _C.SOURCE_AGE_RESTRICTED: ErrorSpec(
        SourceError, False, "Upload the file, or let the operator set SOUNDFLEET_VIDEO_COOKIES of an account of age."
    ),
    _C.SOURCE_BOT_CHECK: ErrorSpec(
        SourceError, False, "Let the operator set SOUNDFLEET_VIDEO_COOKIES, or fetch from another network."
    ),
    _C.UNSUPPORTED_SOURCE: ErrorSpec(SourceError, False, "Give a file, an s3:// or https:// address, or job:ID."),
    _C.UNSUPPORTED_FORMAT: ErrorSpec(SourceError, False, "Give an mp3, wav, m4a, flac or ogg file."),
    _C.AUDIO_CORRUPT: ErrorSpec(SourceError, False, "Export the file again and check that it plays to its end."),
    _C.AUDIO_EMPTY: ErrorSpec(SourceError, False, "Give a file that holds audio."),
    _C.AUDIO_TOO_LONG: ErrorSpec(SourceError, False, "Cut the audio into shorter parts."),
    _C.FILE_TOO_LARGE: ErrorSpec(SourceError, False, "Compress or cut the file."),
    _C.DECODE_LIMIT_EXCEEDED: ErrorSpec(SourceError, False, "Re-encode the file as plain flac or mp3."),
    _C.QUEUE_FULL: ErrorSpec(QueueError, True, "Try again later."),
    _C.QUEUE_UNAVAILABLE: ErrorSpec(QueueError, True, "Check SOUNDFLEET_REDIS_URL and that Redis runs."),
    _C.JOB_NOT_FOUND: ErrorSpec(QueueError, False, "Check the id with: soundfleet jobs"),
    _C.JOB_NOT_FINISHED: ErrorSpec(QueueError, False, "Wait for it with: soundfleet watch JOB"),
    _C.JOB_CONFLICT: ErrorSpec(QueueError, False, "Use a new id for a different request."),
    _C.JOB_EXPIRED: ErrorSpec(QueueError, False, "Submit it again with a later expires_at."),
    _C.MALFORMED_ENTRY: ErrorSpec(QueueError, False, "Publish with the submit script only."),
    _C.ILLEGAL_TRANSITION: ErrorSpec(QueueError, False, "Read the job's state before acting on it."),
    _C.RESULT_TIMEOUT: ErrorSpec(QueueError, False, "Wait longer; the job goes on."),
    _C.BACKEND_NOT_READY: ErrorSpec(ModelError, True, "Wait for the worker to load the backend."),
    _C.MODEL_LOAD_FAILED: ErrorSpec(ModelError, False, "Check the model's files with: soundfleet backends"),
    _C.MODEL_INFERENCE_FAILED: ErrorSpec(ModelError, True, "See the worker's log for the cause."),
    _C.OUTPUT_SILENT: ErrorSpec(ModelError, False, "Submit it again with another seed or another prompt."),
    _C.OUT_OF_MEMORY: ErrorSpec(ModelError, True, "Use a shorter input, a smaller model or a larger device."),
    _C.DEVICE_FAILED: ErrorSpec(ModelError, True, "Check the device of the worker named in the job."),
    _C.STORAGE_UNAVAILABLE: ErrorSpec(StorageError, True, "Check AWS_ENDPOINT_URL_S3 and that the storage runs."),
    _C.STORAGE_REFUSED: ErrorSpec(StorageError, False, "Check the credentials and SOUNDFLEET_BUCKET."),
    _C.GENERATION_CANCELLED: ErrorSpec(WorkerError, False, ""),
    _C.SEPARATION_CANCELLED: ErrorSpec(WorkerError, False, ""),
    _C.TIME_LIMIT_EXCEEDED: ErrorSpec(WorkerError, False, "Shorten the job or raise its time limit."),
    _C.WORKER_CRASHED: ErrorSpec(WorkerError, True, "See the worker's log for the cause."),
    _C.SCRATCH_FULL: ErrorSpec(
        WorkerError, True, "Free space in the worker's scratch directory, or set SOUNDFLEET_SCRATCH_DIR."
    ),
    _C.INTERNAL_ERROR: ErrorSpec(WorkerError, True, "Report it with the worker's log."),
    _C.INVALID_SETTING: ErrorSpec(SettingsError, False, "Correct the setting; docs/operations.md lists them."),
    _C.MISSING_DEPENDENCY: ErrorSpec(SettingsError, False, "Install the extra that the message names."),
}
