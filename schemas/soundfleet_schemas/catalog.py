"""The backends that the project knows, with their ranges, licences and defaults.

A job names a *backend*: ``sketch``, ``musicgen``, ``ace_step``, or a Demucs model. Foreign backends are not
listed here; their workers publish the same ``BackendSpec`` to Redis (``keys.backends``).
"""

from __future__ import annotations

from .base import Record
from .enums import BackendStatus, BackendType, Kind, SchedulerType, Task

STEMS = ("drums", "bass", "other", "vocals")
"""Order of Demucs' sources."""
SIX_STEMS = (*STEMS, "guitar", "piano")


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


def _demucs(
    model: str,
    name: str,
    segment_sec: float,
    *,
    stems: tuple[str, ...] = STEMS,
    memory_mb: int = 2048,
    licence: str = "for scientific purposes (the author's words)",
) -> BackendSpec:
    return BackendSpec(
        backend=model,
        kind=Kind.separate,
        type=BackendType.Demucs,
        name=name,
        model_version=f"{model}-1",
        sample_rate=44_100,
        licence=licence,
        min_duration_sec=0.1,
        max_duration_sec=600.0,
        stems=stems,
        memory_mb=memory_mb,
        segment_sec=segment_sec,
    )


_SPECS = (
    BackendSpec(
        backend="sketch",
        kind=Kind.generate,
        type=BackendType.Sketch,
        name="Sketch",
        model_version="sketch-1",
        sample_rate=48_000,
        licence="MIT",
        min_duration_sec=5.0,
        max_duration_sec=240.0,
        stems=STEMS,
        memory_mb=64,
    ),
    BackendSpec(
        backend="musicgen",
        kind=Kind.generate,
        type=BackendType.MusicGen,
        name="MusicGen-Small",
        model_version="musicgen-small",
        sample_rate=32_000,
        licence="CC-BY-NC-4.0",
        min_duration_sec=5.0,
        max_duration_sec=120.0,
        memory_mb=2048,
        inputs=("source",),
        default_guidance_scale=3.0,
    ),
    BackendSpec(
        backend="ace_step",
        kind=Kind.generate,
        type=BackendType.AceStep,
        name="ACE-Step-1.5-Turbo",
        model_version="acestep-v15-turbo",
        sample_rate=48_000,
        licence="MIT",
        min_duration_sec=5.0,
        max_duration_sec=240.0,
        memory_mb=8192,
        tasks=(Task.text2music, Task.cover, Task.repaint),
        inputs=("source", "reference"),
        default_inference_steps=8,
        default_scheduler=SchedulerType.Euler,
        default_guidance_scale=1.0,
    ),
    _demucs("htdemucs_mini", "HTDemucs-Mini", 3.0, memory_mb=256, licence="MIT"),
    _demucs("htdemucs", "HTDemucs", 7.8),
    _demucs("htdemucs_ft", "HTDemucs-FT", 7.8, memory_mb=4096),
    _demucs("htdemucs_6s", "HTDemucs-6S", 7.8, stems=SIX_STEMS),
    _demucs("hdemucs_mmi", "HDemucs-MMI", 44.0),
    _demucs("mdx", "MDX", 44.0, memory_mb=4096),
    _demucs("mdx_extra", "MDX-Extra", 44.0, memory_mb=4096),
    _demucs("mdx_q", "MDX-Q", 44.0, memory_mb=4096),
    _demucs("mdx_extra_q", "MDX-Extra-Q", 44.0, memory_mb=4096),
)

CATALOG: dict[str, BackendSpec] = {spec.backend: spec for spec in _SPECS}
"""Known backends by the word that requests use."""
