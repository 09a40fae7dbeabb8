"""What a finished job holds: the track or the stems, measured costs, and estimates of quality."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from .base import SCHEMA_VERSION, Record
from .enums import OutputFormat


class AudioFile(Record, frozen=True, kw_only=True):
    """Metadata of one delivered audio file. ``path`` is its object key; ``download`` makes it a local path."""

    filename: str
    path: str
    size: int
    """Bytes."""
    duration: float
    """Seconds."""
    format: OutputFormat
    sample_rate: int
    """Hz."""
    bitrate: int | None = None
    """Bits per second, of compressed formats."""
    cdn_url: str | None = None
    """Minted when the result is read, never stored."""
    sha256: str = ""
    peak_dbfs: float | None = None
    rms_dbfs: float | None = None
    peaks_path: str | None = None
    """Object key of the waveform for players: a JSON document in audiowaveform's format, version 2."""
    peaks_url: str | None = None
    """Minted when the result is read, never stored."""


class StemInfo(AudioFile, frozen=True, kw_only=True):
    """Metadata of one stem."""


StemFiles: TypeAlias = dict[str, StemInfo]
"""The stems of one job by stem name: a mapping, because models differ in what they separate."""


class Track(Record, frozen=True, kw_only=True):
    """A generated piece of music."""

    id: str
    """SHA-256 of every output-affecting field (see ``fingerprint``)."""
    path: str
    prompt: str
    duration_sec: float
    sample_rate: int
    seed: int
    backend: str
    model_version: str
    generation_time_sec: float
    created_at: datetime
    file: AudioFile


class QualityMetrics(Record, frozen=True, kw_only=True):
    """How good a separation is, each score 0 to 1. Without references they are estimates, and ``method`` says so.

    A score is the share of a stem's energy that is the true stem: 0.75 is an SI-SDR of 4.8 dB (see docs/quality.md).
    """

    overall_score: float
    """The mean over the stems that were judged."""
    vocal_isolation: float | None = None
    """None where the stem was not computed, or is silent; the same of the next two."""
    drum_separation: float | None = None
    bass_isolation: float | None = None
    artifact_reduction: float
    """The share of the stems' energy that is neither noise nor distortion: the stem itself, or another's sound."""
    method: str
    """``si-sdr``, or ``estimate-<version>``; ``si-sdr of <stems>, else estimate-<version>`` where some have none."""
    scores: dict[str, float] = {}
    """Of every stem that was judged, also of those without a field of their own."""
    si_sdr_db: dict[str, float] = {}
    """Measured against the references, by stem."""


class ProcessingMetrics(Record, frozen=True, kw_only=True):
    """What the run cost, measured by the worker."""

    processing_time: int
    """Seconds, rounded up."""
    cpu_usage: float
    """Mean CPU use of the worker's processes during the run, in cores; runs at the same time are in it."""
    memory_usage: int
    """Peak resident memory of the engine while the run was in it, MB; runs at the same time are in it."""
    model_load_time: int
    """Seconds; 0 when the model was warm."""
    input_file_size: int
    output_file_sizes: tuple[int, ...]
    gpu_usage: float | None = None
    """Mean utilisation of the device while the run was in the engine, 0 to 1; None where it cannot be told."""
    stage_sec: dict[str, float] = {}
    """Seconds per stage: prepare, load, infer, deliver."""
    real_time_factor: float | None = None
    """Seconds of audio per second of inference."""
    gpu_memory: int | None = None
    """Peak memory in use on the device meanwhile, by all of its processes, MB."""
    waited_sec: float | None = None
    """From the submission to the claim of this attempt."""


class JobResult(Record, frozen=True, kw_only=True):
    """The committed output of a job. Also the manifest in object storage, next to the audio."""

    job_id: str
    attempt: int
    """The attempt that was committed; its files lie under ``output_dir``."""
    output_dir: str
    """Key prefix ``jobs/<id>/<attempt>/``."""
    processing_time: int
    """Seconds, rounded up."""
    model_used: str
    file_size: int
    """Bytes of all output files."""
    stems: StemFiles = {}
    """By stem name; empty for a generation."""
    track: Track | None = None
    """Of a generation."""
    quality_metrics: QualityMetrics | None = None
    processing_metrics: ProcessingMetrics | None = None
    parameters: dict[str, Any] = {}
    """The effective parameters, as they acted."""
    warnings: tuple[str, ...] = ()
    fingerprint: str = ""
    cached: bool = False
    """True when an earlier job's output answered this one."""
    cdn_urls: tuple[str, ...] = ()
    """Minted when the result is read."""
    schema_version: int = msgspec.field(default_factory=lambda: SCHEMA_VERSION)  # a factory: always written

    @property
    def files(self) -> dict[str, AudioFile]:
        """Every delivered file by name: the stems, or the track."""
        if self.track is not None:
            return {"track": self.track.file}
        return dict(self.stems)
