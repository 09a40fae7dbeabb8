"""What is known of a backend: everywhere (``BackendSpec``), and on one worker (``Backend``)."""

from __future__ import annotations

from .base import Record
from .enums import BackendStatus, Kind, SchedulerType, Task


class BackendSpec(Record, frozen=True, kw_only=True):
    """What is true of a backend everywhere, whether it is installed or not."""

    backend: str
    """The word that requests and lanes use."""
    kind: Kind
    type: str
    """A ``BackendType`` value, or a foreign family's name."""
    name: str
    """Display name."""
    model_version: str
    """Part of every fingerprint: a new version never answers from an old cache."""
    sample_rate: int
    """Of the audio the model works in, Hz."""
    licence: str
    """Of the weights."""
    min_duration_sec: float
    max_duration_sec: float
    stems: tuple[str, ...] = ()
    memory_mb: int = 0
    """Memory that the loaded model needs."""
    sdr_db: float | None = None
    """Published signal-to-distortion ratio, the mean over the stems; None where nobody has published one."""
    sdr_on: str = ""
    """What it was measured on."""
    repository: str = ""
    """Where the weights are on the model hub; empty of a model that is not there."""
    homepage: str = ""
    tasks: tuple[Task, ...] = ()
    """What a checkpoint of ACE-Step can do."""
    inputs: tuple[str, ...] = ()
    """Audio that a generation may be given: ``source``, ``reference``."""
    segment_sec: float | None = None
    """Longest (and default) segment of a separation model."""
    default_inference_steps: int | None = None
    """Of a diffusion model; None says that steps, scheduler and guidance do not act."""
    default_scheduler: SchedulerType | None = None
    default_guidance_scale: float | None = None
    channels: int | None = None
    """Of the audio that a generation model makes; None where the model's files may have any number."""


class Backend(Record, frozen=True, kw_only=True):
    """A backend as one worker sees it (the data model's entity)."""

    type: str
    name: str
    status: BackendStatus
    min_duration_sec: float
    max_duration_sec: float
    sample_rate: int
    model_version: str
    backend: str
    kind: Kind
    licence: str = ""
    stems: tuple[str, ...] = ()
    message: str | None = None
    """Why the status is Error, or what is missing."""
    percent: int | None = None
    """Of a download."""

    @classmethod
    def of(cls, spec: BackendSpec, status: BackendStatus, message: str | None = None) -> Backend:
        """Combine what is true everywhere with what is true here."""
        return cls(
            type=spec.type,
            name=spec.name,
            status=status,
            min_duration_sec=spec.min_duration_sec,
            max_duration_sec=spec.max_duration_sec,
            sample_rate=spec.sample_rate,
            model_version=spec.model_version,
            backend=spec.backend,
            kind=spec.kind,
            licence=spec.licence,
            stems=spec.stems,
            message=message,
        )
