"""The rules of the data models as pure functions: the same ones at the producer's door and at the worker's.

Each raises the typed error of the first broken rule. Types and unknown fields were already checked by decoding;
values built in Python are checked by ``check_types``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from .base import Strict, encode
from .catalog import CATALOG, why_refused
from .decoding import code_of
from .enums import BitDepth, OutputFormat
from .errors import ErrorCode, error, show
from .limits import DEFAULT_LIMITS, GUIDANCE_SCALE, INFERENCE_STEPS, MAX_PROMPT_CHARS, MAX_SEED, Limits
from .music_rules import check_music
from .options import (
    MAX_EFFORT,
    MAX_OVERLAP,
    MAX_SHIFTS,
    MIN_SEGMENT_SEC,
    MP3_BITRATES_KBPS,
    SeparationPlan,
    StemSeparationOptions,
    effort,
    plan_separation,
)
from .refusals import idle, takes
from .requests import (
    GenerationRequest,
    JobRequest,
    SeparationRequest,
    backend_of,
    decode_request,
    kind_of,
    sources_of,
)
from .sources import AudioSource, JobSource, LocalFile, UploadSource, check_source, parse_source
from .spec import BackendSpec

VISIBLE = re.compile(
    r"[^\s\x00-\x1f\x7f-\xa0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]"
)
"""A character that shows: no space, control, zero-width or filler. Spelled out, because the JSON Schemas carry it."""
_CLIENT = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def validate(
    request: JobRequest, limits: Limits = DEFAULT_LIMITS, catalog: Mapping[str, BackendSpec] = CATALOG
) -> BackendSpec:
    """Check a complete request and return the backend that serves it.

    ``catalog`` holds the backends that may be named: the project's own and any foreign ones.
    """
    request = check_types(request)
    _check_envelope(request, limits)
    spec = _backend(request, catalog)
    for source in sources_of(request).values():
        _check_source(source, request, limits)
    if isinstance(request, GenerationRequest):
        _check_generation(request, spec)
    else:
        check_options(request.options, spec)
        _check_references(request, spec)
    return spec


def check_types(request: JobRequest) -> JobRequest:
    """Return the request as its reader will decode it; msgspec checks types only then.

    Raises the code of the first field whose type is wrong, or INVALID_MESSAGE.
    """
    try:
        raw = encode(request)
    except UnicodeEncodeError:
        raise error(ErrorCode.INVALID_MESSAGE, "the request holds a lone surrogate, which is no character") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise error(ErrorCode.INVALID_MESSAGE, f"not a {kind_of(request)} request: {exc}") from None
    if b"null" in raw:
        _check_finite(request)
        if isinstance(request, SeparationRequest):
            _check_finite(request.options, "options.")
        for name in ("sampling", "song"):
            if (part := getattr(request, name, None)) is not None:
                _check_finite(part, f"{name}.")
    return decode_request(raw)


def _check_finite(part: Strict, path: str = "") -> None:
    """JSON has neither NaN nor infinity: they would travel as null, which means something else."""
    for field in part.__struct_fields__:
        value = getattr(part, field)
        if isinstance(value, float) and not math.isfinite(value):
            raise error(code_of(f"{path}{field}"), f"{path}{field} is {value}")


def _check_envelope(request: JobRequest, limits: Limits) -> None:
    check_job_id(request.id)
    if request.retried_from is not None:
        check_job_id(request.retried_from)
    if request.client is not None and not _CLIENT.fullmatch(request.client):
        raise takes("client", show(request.client), "1 to 128 letters, digits and . _ : @ -")
    if request.expires_at is not None and request.expires_at.tzinfo is None:
        raise takes("expires_at", request.expires_at.isoformat(), "a time with a time zone")
    time_limit = request.time_limit_sec
    if time_limit is not None and not 1.0 <= time_limit <= limits.long_run_sec:
        raise takes("time_limit_sec", f"{time_limit:g}", f"1 to {limits.long_run_sec:g} seconds")


def check_job_id(job_id: str) -> None:
    """Raise INVALID_JOB_ID unless ``job_id`` is a UUID in its canonical form."""
    if not _UUID.fullmatch(job_id):
        raise error(ErrorCode.INVALID_JOB_ID, f"{show(job_id)} is not a UUID in canonical form")


def _backend(request: JobRequest, catalog: Mapping[str, BackendSpec]) -> BackendSpec:
    code = ErrorCode.INVALID_BACKEND if isinstance(request, GenerationRequest) else ErrorCode.INVALID_MODEL
    name, kind = backend_of(request), kind_of(request)
    spec = catalog.get(name)
    if spec is None and (why := why_refused(name)) is not None:
        raise error(code, f"{name} cannot be served: {why}")
    if spec is None:
        known = ", ".join(sorted(s.backend for s in catalog.values() if s.kind is kind))
        raise error(code, f"no backend that can {kind} is called {show(name)}; there are {known}")
    if spec.kind is not kind:
        raise error(code, f"{name} can {spec.kind}, not {kind}")
    return spec


def _check_generation(request: GenerationRequest, spec: BackendSpec) -> None:
    if not VISIBLE.search(request.prompt):
        raise error(ErrorCode.INVALID_PROMPT, "the prompt holds nothing that can be seen")
    if len(request.prompt) > MAX_PROMPT_CHARS:
        length = len(request.prompt)
        raise error(ErrorCode.INVALID_PROMPT, f"the prompt has {length} characters, over {MAX_PROMPT_CHARS}")
    if not spec.min_duration_sec <= request.duration_sec <= spec.max_duration_sec:
        raise error(
            ErrorCode.INVALID_DURATION,
            f"duration_sec is {show(request.duration_sec)}; {spec.backend} makes "
            f"{spec.min_duration_sec:g} to {spec.max_duration_sec:g} seconds",
        )
    if request.seed is not None:
        _check_seed(request.seed)
    _check_diffusion(request, spec)
    check_music(request, spec)
    _check_output(request.output_format, request.bit_depth, request.bitrate_kbps)


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise error(ErrorCode.INVALID_SEED, f"seed is {show(seed)}")


def _check_diffusion(request: GenerationRequest, spec: BackendSpec) -> None:
    steps, scale = request.inference_steps, request.guidance_scale
    if steps is not None and not INFERENCE_STEPS[0] <= steps <= INFERENCE_STEPS[1]:
        raise error(ErrorCode.INVALID_INFERENCE_STEPS, f"inference_steps is {show(steps)}")
    if scale is not None and not GUIDANCE_SCALE[0] <= scale <= GUIDANCE_SCALE[1]:
        raise error(ErrorCode.INVALID_GUIDANCE_SCALE, f"guidance_scale is {scale:g}")
    if spec.default_inference_steps is None:
        for field in ("inference_steps", "scheduler", "guidance_scale"):
            if getattr(request, field) is not None:
                raise idle(field, f"on backend {spec.backend}")


def _check_references(request: SeparationRequest, spec: BackendSpec) -> None:
    computed = plan_separation(request.options, spec).computed
    if unknown := sorted(set(request.references) - set(computed)):
        raise takes("references", show(unknown[0]), f"the stems that are computed: {', '.join(computed)}")


def _check_source(named: AudioSource | str, request: JobRequest, limits: Limits) -> None:
    source = parse_source(named) if isinstance(named, str) else named
    if isinstance(source, LocalFile):
        raise error(
            ErrorCode.INVALID_SOURCE,
            f"{show(source.path)} is a local path, which means nothing to a worker",
            "Submit it with the producer or the CLI, which upload it first.",
        )
    check_source(source)
    if isinstance(source, JobSource):
        check_job_id(source.job_id)
        if source.job_id == request.id:
            raise error(ErrorCode.INVALID_SOURCE, "the job names itself as its source", "Name another job.")
    if isinstance(source, UploadSource) and source.size_bytes > limits.max_file_bytes:
        raise error(
            ErrorCode.FILE_TOO_LARGE, f"the file has {show(source.size_bytes)} bytes, over {limits.max_file_bytes}"
        )


def check_options(options: StemSeparationOptions, spec: BackendSpec) -> None:
    """Raise INVALID_OPTION for the first option that is out of range or cannot act."""
    segment, overlap = options.segment_duration, options.overlap_duration
    longest = spec.segment_sec or math.inf
    if segment is not None and not MIN_SEGMENT_SEC <= segment <= longest:
        allowed = f"{MIN_SEGMENT_SEC:g} to {longest:g} seconds for {spec.backend}"
        raise takes("segment_duration", f"{segment:g}", allowed)
    effective = segment if segment is not None else longest
    if overlap is not None and effective == math.inf:
        raise error(
            ErrorCode.INVALID_OPTION,
            f"overlap_duration needs segment_duration: {spec.backend} has no segment of its own",
            "Give segment_duration as well, or leave overlap_duration out.",
        )
    if overlap is not None and not 0 <= overlap <= MAX_OVERLAP * effective:
        raise takes(
            "overlap_duration",
            f"{overlap:g}",
            f"0 to {MAX_OVERLAP * effective:g} seconds, {MAX_OVERLAP:g} times segment_duration",
        )
    if options.shifts is not None and not 0 <= options.shifts <= MAX_SHIFTS:
        raise takes("shifts", show(options.shifts), f"0 to {MAX_SHIFTS}")
    _check_seed(options.seed)
    _check_stems(options, spec)
    _check_plan(options, plan_separation(options, spec), spec)
    _check_output(options.output_format, options.bit_depth, options.bitrate_kbps)


def _check_plan(options: StemSeparationOptions, plan: SeparationPlan, spec: BackendSpec) -> None:
    """What options, each within its range, come to together with the preset."""
    if options.seed and not plan.shifts:
        preset = f"quality {options.quality} makes none" if options.shifts is None else "shifts is 0"
        raise idle("seed", f"without random shifts: {preset}")
    work = effort(plan, spec)
    if work > MAX_EFFORT:
        raise error(
            ErrorCode.INVALID_OPTION,
            f"shifts {plan.shifts}, segment_duration {plan.segment_sec:g} and overlap {plan.overlap:.2g} make "
            f"{spec.backend} work {work:.0f} times through the audio; at most {MAX_EFFORT:g} times end in time",
            "Use fewer shifts, longer segments or less overlap.",
        )


def _check_stems(options: StemSeparationOptions, spec: BackendSpec) -> None:
    if options.remove_vocals and "vocals" not in spec.stems:
        raise idle("remove_vocals", f"on model {spec.backend}, which has no vocals stem")
    if options.two_stems is not None:
        if options.remove_vocals:
            raise idle("two_stems", "together with remove_vocals, which delivers one file")
        if options.two_stems not in spec.stems:
            raise takes("two_stems", show(options.two_stems), f"one of {', '.join(spec.stems)} for {spec.backend}")
    if options.stems is None:
        return
    if options.remove_vocals:
        raise idle("stems", "together with remove_vocals, which delivers one file")
    if options.two_stems is not None:
        raise idle("stems", "together with two_stems, which names what is delivered")
    unique = set(options.stems)
    if not unique or len(unique) < len(options.stems) or not unique <= set(spec.stems):
        allowed = f"one or more of {', '.join(spec.stems)} for {spec.backend}, each once"
        raise takes("stems", show(",".join(options.stems)), allowed)


def _check_output(output_format: OutputFormat, bit_depth: BitDepth | None, bitrate_kbps: int | None) -> None:
    if bit_depth is not None:
        if output_format is OutputFormat.mp3:
            raise idle("bit_depth", "on mp3; set bitrate_kbps")
        if output_format is OutputFormat.flac and bit_depth is BitDepth.float32:
            raise takes("bit_depth", bit_depth, "16 or 24 for flac")
    if bitrate_kbps is not None:
        if output_format is not OutputFormat.mp3:
            raise idle("bitrate_kbps", f"on {output_format}; it is for mp3")
        if bitrate_kbps not in MP3_BITRATES_KBPS:
            raise takes("bitrate_kbps", show(bitrate_kbps), ", ".join(map(str, MP3_BITRATES_KBPS)))
