"""Every entity, field, enum, number and code of the two data models has a home under its own name."""

from __future__ import annotations

from enum import StrEnum

import msgspec
import pytest

from soundfleet_producer.settings import Settings
from soundfleet_schemas import (
    CATALOG,
    DEFAULT_LIMITS,
    ERRORS,
    PRESETS,
    Backend,
    BackendStatus,
    BackendType,
    ErrorCode,
    GenerationRequest,
    InputType,
    Job,
    JobResult,
    JobStatus,
    JobStatusResponse,
    OutputFormat,
    Priority,
    ProcessingMetrics,
    ProgressUpdate,
    Quality,
    QualityMetrics,
    SchedulerType,
    StemifyRequest,
    StemifyResponse,
    StemInfo,
    StemSeparationOptions,
    Track,
)
from soundfleet_schemas.limits import (
    DAY_SEC,
    GUIDANCE_SCALE,
    INFERENCE_STEPS,
    MAX_PROMPT_CHARS,
    MAX_SEED,
    MIN_ACCEPTABLE_QUALITY,
)

ENTITIES: dict[type[msgspec.Struct], str] = {
    Backend: "type name status min_duration_sec max_duration_sec sample_rate model_version",
    GenerationRequest: "id prompt duration_sec backend seed priority inference_steps scheduler guidance_scale",
    Track: "id path prompt duration_sec sample_rate seed backend model_version generation_time_sec created_at",
    ProgressUpdate: "track_id percent current_step total_steps eta_sec",
    Settings: "default_backend ace_step_model_dir ace_step_default_steps ace_step_default_scheduler "
    "ace_step_default_guidance",  # the data model's DaemonConfig
    Job: "id status created_at updated_at input_type input_source model options progress result error "
    "estimated_duration actual_duration",
    JobResult: "job_id output_dir stems processing_time model_used quality_metrics file_size cdn_urls",
    StemInfo: "filename path size duration format sample_rate bitrate cdn_url",
    StemSeparationOptions: "model quality output_format normalize remove_vocals segment_duration overlap_duration",
    QualityMetrics: "overall_score vocal_isolation drum_separation bass_isolation artifact_reduction method",
    ProcessingMetrics: "processing_time cpu_usage memory_usage gpu_usage model_load_time input_file_size "
    "output_file_sizes",
    StemifyRequest: "file youtubeUrl options",
    StemifyResponse: "jobId status estimatedDuration message",
    JobStatusResponse: "jobId status progress result error createdAt updatedAt",
}

ENUMS: dict[type[StrEnum], str] = {
    BackendType: "MusicGen AceStep",
    BackendStatus: "NotInstalled Downloading Ready Loading Error",
    SchedulerType: "Euler Heun PingPong",
    Priority: "High Normal",
    JobStatus: "pending processing completed failed",
    InputType: "file_upload youtube_url",
    Quality: "fast balanced best",
    OutputFormat: "wav mp3 flac",
}

CODES = [
    "INVALID_DURATION",
    "INVALID_BACKEND",
    "BACKEND_NOT_READY",
    "INVALID_INFERENCE_STEPS",
    "INVALID_GUIDANCE_SCALE",
    "INVALID_SCHEDULER",
    "MODEL_LOAD_FAILED",
    "MODEL_INFERENCE_FAILED",
    "GENERATION_CANCELLED",
    "QUEUE_FULL",
]


@pytest.mark.parametrize(("entity", "fields"), ENTITIES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_entity_has_every_field_of_its_data_model_by_name(entity: type[msgspec.Struct], fields: str) -> None:
    """Wire names are compared, because those are what other languages see."""
    assert set(fields.split()) <= set(entity.__struct_encode_fields__)


@pytest.mark.parametrize(("enum", "members"), ENUMS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_enum_has_every_member_of_its_data_model(enum: type[StrEnum], members: str) -> None:
    """Members may be more, never fewer."""
    assert set(members.split()) <= set(enum.__members__)


@pytest.mark.parametrize("code", CODES)
def test_every_error_code_of_the_data_model_is_ours(code: str) -> None:
    """And says what follows from it."""
    assert ErrorCode(code) in ERRORS


def test_stem_files_is_a_mapping_by_stem_name() -> None:
    """StemFiles has no fixed four fields: a model with six stems has six."""
    assert msgspec.inspect.type_info(JobResult).fields[6].name == "stems"
    assert CATALOG["htdemucs_6s"].stems == ("drums", "bass", "other", "vocals", "guitar", "piano")


@pytest.mark.parametrize(
    ("backend", "shortest", "longest", "sample_rate"),
    [("musicgen", 5, 120, 32_000), ("ace_step", 5, 240, 48_000)],
)
def test_a_generation_backend_has_its_range_and_sample_rate(
    backend: str, shortest: int, longest: int, sample_rate: int
) -> None:
    """Seconds and Hz, as the data model lists them."""
    spec = CATALOG[backend]
    assert (spec.min_duration_sec, spec.max_duration_sec, spec.sample_rate) == (shortest, longest, sample_rate)


@pytest.mark.parametrize("model", ["htdemucs", "htdemucs_ft", "mdx_extra", "mdx_extra_q"])
def test_every_separation_model_of_the_data_model_can_be_named(model: str) -> None:
    """Each separates at least the four stems."""
    assert set(CATALOG[model].stems) >= {"vocals", "drums", "bass", "other"}


def test_the_numbers_are_the_data_models() -> None:
    """Ranges, limits, timeouts and retention."""
    assert MAX_PROMPT_CHARS == 512
    assert MAX_SEED == 2**64 - 1
    assert INFERENCE_STEPS == (1, 200)
    assert GUIDANCE_SCALE == (1.0, 30.0)
    assert MIN_ACCEPTABLE_QUALITY == 0.75
    assert set(DEFAULT_LIMITS.accepted) >= {"mp3", "wav", "m4a", "flac", "ogg"}
    assert DEFAULT_LIMITS.max_file_bytes == 50 * 2**20
    assert DEFAULT_LIMITS.max_audio_sec == 600
    assert (DEFAULT_LIMITS.short_run_sec, DEFAULT_LIMITS.long_run_sec) == (300, 600)
    assert DEFAULT_LIMITS.max_attempts == 3
    assert DEFAULT_LIMITS.retain_completed_sec == 30 * DAY_SEC
    assert DEFAULT_LIMITS.retain_failed_sec == 7 * DAY_SEC
    assert DEFAULT_LIMITS.retain_objects_sec == 90 * DAY_SEC


def test_the_defaults_are_the_data_models() -> None:
    """Priority, and the backend of a generation that names none."""
    assert GenerationRequest(prompt="rain", duration_sec=30).priority is Priority.Normal
    assert Settings().default_backend == BackendType.MusicGen
    assert Settings().ace_step_default_scheduler is SchedulerType.Euler


def test_presets_are_compute_presets() -> None:
    """(model, shifts, overlap) per quality."""
    assert {quality: tuple(preset) for quality, preset in PRESETS.items()} == {
        Quality.fast: ("htdemucs", 0, 0.1),
        Quality.balanced: ("htdemucs", 1, 0.25),
        Quality.best: ("htdemucs_ft", 2, 0.25),
    }


def test_every_code_has_advice_and_a_class() -> None:
    """A cancellation needs no advice; nothing else may be silent about what to do."""
    assert set(ERRORS) == set(ErrorCode)
    silent = {code for code, spec in ERRORS.items() if not spec.action}
    assert silent == {ErrorCode.GENERATION_CANCELLED, ErrorCode.SEPARATION_CANCELLED}
