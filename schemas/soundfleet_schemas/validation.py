"""The rules of the data models as pure functions: the same ones at the producer's door and at the worker's.

Each raises the typed error of the first broken rule. Types and unknown fields were already checked by decoding;
values built in Python are checked by ``check_types``.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping

from .base import encode
from .catalog import CATALOG, BackendSpec
from .enums import BitDepth, OutputFormat
from .errors import ErrorCode, SoundfleetError, error
from .limits import DEFAULT_LIMITS, GUIDANCE_SCALE, INFERENCE_STEPS, MAX_PROMPT_CHARS, MAX_SEED, Limits
from .options import MAX_SHIFTS, MP3_BITRATES_KBPS, StemSeparationOptions
from .requests import GenerationRequest, JobRequest, SeparationRequest, backend_of, decode_request, kind_of
from .sources import JobSource, LocalFile, parse_source

_CLIENT = re.compile(r"[A-Za-z0-9._:@-]{1,128}")


def validate(
    request: JobRequest, limits: Limits = DEFAULT_LIMITS, catalog: Mapping[str, BackendSpec] = CATALOG
) -> BackendSpec:
    """Check a complete request and return the backend that serves it.

    ``catalog`` holds the backends that may be named: the project's own and any foreign ones.
    """
    check_types(request)
    _check_envelope(request, limits)
    spec = _backend(request, catalog)
    if isinstance(request, GenerationRequest):
        _check_generation(request, spec)
    else:
        _check_source(request)
        check_options(request.options, spec)
    return spec


def check_types(request: JobRequest) -> None:
    """Raise INVALID_MESSAGE unless every field has its declared type (msgspec checks only when it decodes)."""
    try:
        raw = encode(request)
    except (TypeError, ValueError, OverflowError) as exc:
        raise error(ErrorCode.INVALID_MESSAGE, f"not a valid {kind_of(request)} request: {exc}") from None
    decode_request(raw)


def _check_envelope(request: JobRequest, limits: Limits) -> None:
    check_job_id(request.id)
    if request.client is not None and not _CLIENT.fullmatch(request.client):
        raise _option("client", request.client, "1 to 128 letters, digits and . _ : @ -")
    if request.expires_at is not None and request.expires_at.tzinfo is None:
        raise _option("expires_at", request.expires_at, "a time with a time zone")
    time_limit = request.time_limit_sec
    if time_limit is not None and not 1.0 <= time_limit <= limits.long_run_sec:
        raise _option("time_limit_sec", time_limit, f"1 to {limits.long_run_sec:g} seconds")


def check_job_id(job_id: str) -> None:
    """Raise INVALID_JOB_ID unless ``job_id`` is a UUID in its canonical form."""
    try:
        canonical = str(uuid.UUID(job_id))
    except ValueError:
        canonical = ""
    if canonical != job_id:
        raise error(ErrorCode.INVALID_JOB_ID, f"{job_id!r} is not a UUID in canonical form")


def _backend(request: JobRequest, catalog: Mapping[str, BackendSpec]) -> BackendSpec:
    code = ErrorCode.INVALID_BACKEND if isinstance(request, GenerationRequest) else ErrorCode.INVALID_MODEL
    name, kind = backend_of(request), kind_of(request)
    spec = catalog.get(name)
    if spec is None:
        known = ", ".join(sorted(s.backend for s in catalog.values() if s.kind is kind))
        raise error(code, f"no {kind} backend is called {name!r}; there are {known}")
    if spec.kind is not kind:
        raise error(code, f"{name} is for {spec.kind}, not for {kind}")
    return spec


def _check_generation(request: GenerationRequest, spec: BackendSpec) -> None:
    if not request.prompt.strip():
        raise error(ErrorCode.INVALID_PROMPT, "the prompt is empty")
    if len(request.prompt) > MAX_PROMPT_CHARS:
        length = len(request.prompt)
        raise error(ErrorCode.INVALID_PROMPT, f"the prompt has {length} characters, over {MAX_PROMPT_CHARS}")
    if not spec.min_duration_sec <= request.duration_sec <= spec.max_duration_sec:
        raise error(
            ErrorCode.INVALID_DURATION,
            f"duration_sec is {request.duration_sec}; {spec.backend} makes "
            f"{spec.min_duration_sec:g} to {spec.max_duration_sec:g} seconds",
        )
    if request.seed is not None and not 0 <= request.seed <= MAX_SEED:
        raise error(ErrorCode.INVALID_SEED, f"seed is {request.seed}")
    _check_diffusion(request, spec)
    _check_output(request.output_format, request.bit_depth, request.bitrate_kbps)


def _check_diffusion(request: GenerationRequest, spec: BackendSpec) -> None:
    steps, scale = request.inference_steps, request.guidance_scale
    if steps is not None and not INFERENCE_STEPS[0] <= steps <= INFERENCE_STEPS[1]:
        raise error(ErrorCode.INVALID_INFERENCE_STEPS, f"inference_steps is {steps}")
    if scale is not None and not GUIDANCE_SCALE[0] <= scale <= GUIDANCE_SCALE[1]:  # also refuses NaN
        raise error(ErrorCode.INVALID_GUIDANCE_SCALE, f"guidance_scale is {scale:g}")
    if spec.default_inference_steps is None:
        for field in ("inference_steps", "scheduler", "guidance_scale"):
            if getattr(request, field) is not None:
                raise _option(field, getattr(request, field), f"nothing: it does not act on backend {spec.backend}")


def _check_source(request: SeparationRequest) -> None:
    source = parse_source(request.source) if isinstance(request.source, str) else request.source
    if isinstance(source, JobSource):
        check_job_id(source.job_id)
    if isinstance(source, LocalFile):
        raise error(
            ErrorCode.INVALID_SOURCE,
            f"{source.path!r} is a local path, which means nothing to a worker",
            "Submit it with the producer or the CLI, which upload it first.",
        )


def check_options(options: StemSeparationOptions, spec: BackendSpec) -> None:
    """Raise INVALID_OPTION for the first option that is out of range or cannot act."""
    segment, overlap = options.segment_duration, options.overlap_duration
    longest = spec.segment_sec or math.inf
    if segment is not None and not 0 < segment <= longest:
        raise _option("segment_duration", segment, f"above 0 and at most {longest:g} seconds for {spec.backend}")
    effective = segment if segment is not None else longest
    if overlap is not None and not 0 <= overlap <= 0.9 * effective:
        raise _option("overlap_duration", overlap, f"0 to 0.9 times segment_duration ({effective:g} seconds)")
    if options.shifts is not None and not 0 <= options.shifts <= MAX_SHIFTS:
        raise _option("shifts", options.shifts, f"0 to {MAX_SHIFTS}")
    if not 0 <= options.seed <= MAX_SEED:
        raise error(ErrorCode.INVALID_SEED, f"seed is {options.seed}")
    _check_stems(options, spec)
    _check_output(options.output_format, options.bit_depth, options.bitrate_kbps)


def _check_stems(options: StemSeparationOptions, spec: BackendSpec) -> None:
    if options.remove_vocals and "vocals" not in spec.stems:
        raise _option("remove_vocals", True, f"a model with a vocals stem; {spec.backend} has {', '.join(spec.stems)}")
    if options.stems is None:
        return
    if options.remove_vocals:
        raise _option("stems", ",".join(options.stems), "nothing together with remove_vocals")
    if not options.stems or not set(options.stems) <= set(spec.stems):
        raise _option("stems", ",".join(options.stems), f"some of {', '.join(spec.stems)} for {spec.backend}")


def _check_output(output_format: OutputFormat, bit_depth: BitDepth | None, bitrate_kbps: int | None) -> None:
    if bit_depth is not None:
        if output_format is OutputFormat.mp3:
            raise _option("bit_depth", bit_depth, "nothing for mp3; set bitrate_kbps")
        if output_format is OutputFormat.flac and bit_depth is BitDepth.float32:
            raise _option("bit_depth", bit_depth, "16 or 24 for flac")
    if bitrate_kbps is not None:
        low, high = MP3_BITRATES_KBPS
        if output_format is not OutputFormat.mp3:
            raise _option("bitrate_kbps", bitrate_kbps, f"nothing for {output_format}; it is for mp3")
        if not low <= bitrate_kbps <= high:
            raise _option("bitrate_kbps", bitrate_kbps, f"{low} to {high}")


def _option(field: str, value: object, allowed: str) -> SoundfleetError:
    return error(ErrorCode.INVALID_OPTION, f"{field} is {value}; it takes {allowed}")
