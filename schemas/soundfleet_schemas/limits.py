"""The numbers that bound a fleet. Every one is settable; the defaults are the data models'."""

from __future__ import annotations

import math

import msgspec

from .base import Record
from .errors import ErrorCode, error

MAX_PROMPT_CHARS = 512
MAX_SEED = 2**64 - 1
INFERENCE_STEPS = (1, 200)
GUIDANCE_SCALE = (1.0, 30.0)
MIN_ACCEPTABLE_QUALITY = 0.75
"""Below this overall score a separation is flagged in its warnings, not failed."""

INPUT_FORMATS = ("mp3", "wav", "m4a", "flac", "ogg", "opus", "webm", "aac")
"""What a worker can read, by content: m4a is any MP4, webm any Matroska, ogg one without Opus, aac bare frames."""
EVERY_FORMAT = ",".join(INPUT_FORMATS)
DAY_SEC = 86_400


class Limits(Record, frozen=True, kw_only=True):
    """Bounds on input, time, retries, queue and retention."""

    max_file_bytes: int = 50 * 1024 * 1024
    max_audio_sec: float = 600.0
    min_audio_sec: float = 0.1
    input_formats: str = EVERY_FORMAT
    """``mp3,wav,...``: of the files that callers bring. Videos and the outputs of other jobs may be of any."""
    max_attempts: int = 3
    """Attempts of a job whose failures are transient."""
    max_source_wait_sec: float = 3600.0
    """How long a job waits for the job whose output is its source."""
    max_crashes: int = 3
    """Lost leases (a worker that died) after which a job goes to the dead letters."""
    retry_base_sec: float = 2.0
    retry_cap_sec: float = 300.0
    short_run_sec: float = 300.0
    """Time limit of one run of a short job."""
    long_run_sec: float = 600.0
    """Time limit of one run whose audio is longer than ``long_audio_sec``."""
    long_audio_sec: float = 300.0
    max_pending: int = 10_000
    lease_sec: float = 30.0
    renew_every_sec: float = 7.5
    lease_trust: float = 0.9
    """Share of the lease after which a worker that could not renew gives its runs up."""
    ageing_sec: float = 60.0
    """A normal job that has waited this long is claimed before younger high ones."""
    retain_completed_sec: int = 30 * DAY_SEC
    retain_failed_sec: int = 7 * DAY_SEC
    retain_objects_sec: int = 90 * DAY_SEC
    """Kept by the bucket's lifecycle rule, which ``doctor`` compares with this."""
    presign_sec: int = 7 * DAY_SEC

    @property
    def accepted(self) -> tuple[str, ...]:
        """What ``input_formats`` names."""
        return tuple(word for part in self.input_formats.split(",") if (word := part.strip().lower()))

    def of_any_format(self) -> Limits:
        """Return the limits of a file whose format its caller did not choose."""
        return msgspec.structs.replace(self, input_formats=EVERY_FORMAT)


DEFAULT_LIMITS = Limits()


def check_limits(limits: Limits) -> Limits:
    """Return limits that a fleet can work with; raises INVALID_SETTING for the first that it cannot."""
    _check_formats(limits)
    for name in limits.__struct_fields__:
        if name == "input_formats":
            continue
        value = getattr(limits, name)
        if not 0 <= value < math.inf or (value == 0 and name not in _MAY_BE_ZERO):
            raise error(ErrorCode.INVALID_SETTING, f"limits.{name} is {value}; it takes a positive number")
    if limits.lease_trust >= 1:
        raise error(ErrorCode.INVALID_SETTING, f"limits.lease_trust is {limits.lease_trust:g}; it takes less than 1")
    trusted = limits.lease_trust * limits.lease_sec
    if limits.renew_every_sec >= trusted:
        renewals = f"limits.renew_every_sec is {limits.renew_every_sec:g}"
        raise error(ErrorCode.INVALID_SETTING, f"{renewals}, but the lease is trusted for {trusted:g} s only")
    if limits.retain_objects_sec < limits.retain_completed_sec:
        objects = f"limits.retain_objects_sec is {limits.retain_objects_sec}"
        raise error(
            ErrorCode.INVALID_SETTING,
            f"{objects}; it takes at least retain_completed_sec, {limits.retain_completed_sec}, "
            "because a job's outputs live as long as its record",
        )
    if limits.presign_sec > 7 * DAY_SEC:
        raise error(
            ErrorCode.INVALID_SETTING, f"limits.presign_sec is {limits.presign_sec}; S3 signs for 7 days at most"
        )
    return limits


def _check_formats(limits: Limits) -> None:
    known = f"it takes some of {', '.join(INPUT_FORMATS)}, with commas between them"
    for word in limits.accepted:
        if word not in INPUT_FORMATS:
            raise error(ErrorCode.INVALID_SETTING, f"limits.input_formats names {word!r}; {known}")
    if not limits.accepted:
        raise error(ErrorCode.INVALID_SETTING, f"limits.input_formats is empty; {known}")


_MAY_BE_ZERO = frozenset({"retry_base_sec", "retry_cap_sec", "ageing_sec", "min_audio_sec"})
