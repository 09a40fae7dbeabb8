"""The two messages that services publish. Frozen, strict, and complete once submitted."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from .base import SCHEMA_VERSION, Strict
from .decoding import refused
from .enums import BitDepth, Kind, OutputFormat, Priority, SchedulerType
from .errors import ErrorCode, error
from .keys import FETCH, WEB, Lane
from .music import SamplingOptions, SongOptions
from .options import StemSeparationOptions, model_of
from .sources import AudioSource, UrlSource, YouTubeSource


def new_id() -> str:
    """A new job id (UUID4)."""
    return str(uuid.uuid4())


class _Request(Strict, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What every request carries.

    A field at its default is left out of the document; ``kind``, ``id`` and ``schema_version`` never are.
    """

    id: str = msgspec.field(default_factory=new_id)
    """UUID of the job. Submitting the same id again is the same job."""
    priority: Priority = Priority.Normal
    client: str | None = None
    """Who asks; limits are counted by it."""
    expires_at: datetime | None = None
    """A job that has not started by then is dropped unrun. Needs a time zone."""
    time_limit_sec: float | None = None
    """Of one run; default by the length of the audio."""
    retried_from: str | None = None
    """The failed job that this one is a redrive of."""
    use_cache: bool = True
    """Whether finished work with the same fingerprint may answer."""
    schema_version: int = msgspec.field(default_factory=lambda: SCHEMA_VERSION)  # a factory: always written


class GenerationRequest(_Request, frozen=True, kw_only=True, tag="generate"):
    """Ask for music from a text prompt."""

    prompt: str
    """1 to 512 characters."""
    duration_sec: int
    """5 to 120 (MusicGen) or 240 (ACE-Step, sketch)."""
    backend: str | None = None
    """A generation backend; the fleet's default when left out."""
    seed: int | None = None
    """0 to 2^64 - 1; drawn at submission when left out."""
    inference_steps: int | None = None
    """ACE-Step only, 1 to 200; the checkpoint's own when left out."""
    scheduler: SchedulerType | None = None
    """ACE-Step only."""
    guidance_scale: float | None = None
    """ACE-Step only, 1.0 to 30.0."""
    sampling: SamplingOptions | None = None
    """MusicGen only."""
    song: SongOptions | None = None
    """ACE-Step only."""
    source: AudioSource | str | None = None
    """Audio to go on from, or to work on; of backends whose ``inputs`` name it."""
    reference: AudioSource | str | None = None
    """Audio whose melody or sound is followed; of backends whose ``inputs`` name it."""
    output_format: OutputFormat = OutputFormat.wav
    bit_depth: BitDepth | None = None
    bitrate_kbps: int | None = None


class SeparationRequest(_Request, frozen=True, kw_only=True, tag="separate"):
    """Ask for the stems of a song."""

    source: AudioSource | str
    """A source, or a string that ``parse_source`` reads. A local path is uploaded by the producer."""
    options: StemSeparationOptions = StemSeparationOptions()
    references: dict[str, AudioSource | str] = {}
    """True stems by name, where they are known: the result is then measured against them."""


JobRequest: TypeAlias = GenerationRequest | SeparationRequest


def kind_of(request: JobRequest) -> Kind:
    """Return what the request asks for."""
    return Kind.generate if isinstance(request, GenerationRequest) else Kind.separate


SOURCE = "source"
REFERENCE = "reference"
Sources: TypeAlias = dict[str, AudioSource | str]


def sources_of(request: JobRequest) -> Sources:
    """Return the audio that a request names: ``source``, ``reference``, and ``reference.<stem>`` of a separation."""
    if isinstance(request, SeparationRequest):
        stems = {f"{REFERENCE}.{stem}": source for stem, source in request.references.items()}
        return {SOURCE: request.source, **stems}
    named = {SOURCE: request.source, REFERENCE: request.reference}
    return {name: source for name, source in named.items() if source is not None}


def with_sources(request: JobRequest, sources: Sources) -> JobRequest:
    """Return the request with sources, named as ``sources_of`` does, in the place of its own."""
    changes: dict[str, Any] = {name: source for name, source in sources.items() if "." not in name}
    stems = {name.partition(".")[2]: source for name, source in sources.items() if "." in name}
    if isinstance(request, SeparationRequest) and stems:
        changes["references"] = {**request.references, **stems}
    return msgspec.structs.replace(request, **changes) if changes else request


def backend_of(request: JobRequest) -> str:
    """Return the backend that serves the request; a submitted generation always names one."""
    if isinstance(request, SeparationRequest):
        return model_of(request.options)
    if request.backend is None:
        raise error(ErrorCode.INVALID_BACKEND, "the request names no backend")
    return request.backend


def web_sources(request: JobRequest) -> dict[str, UrlSource | YouTubeSource]:
    """Return the sources that are web addresses, named as ``sources_of`` does."""
    named = sources_of(request).items()
    return {name: source for name, source in named if isinstance(source, UrlSource | YouTubeSource)}


def lane_of(request: JobRequest) -> Lane:
    """Return where a request waits: for a download when a source is a web address, else for its backend."""
    if web_sources(request):
        return Lane(FETCH, WEB, request.priority)
    return Lane(kind_of(request), backend_of(request), request.priority)


_DECODER: msgspec.json.Decoder[JobRequest] = msgspec.json.Decoder(GenerationRequest | SeparationRequest)


def decode_request(raw: bytes | str) -> JobRequest:
    """Decode a request. A field of the wrong type raises that field's code; anything else, INVALID_MESSAGE."""
    try:
        request = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise refused(exc) from None
    if request.schema_version < 1:
        raise error(ErrorCode.INVALID_MESSAGE, f"schema_version is {request.schema_version}; the first one is 1")
    if request.schema_version > SCHEMA_VERSION:
        raise error(
            ErrorCode.INVALID_MESSAGE,
            f"schema_version {request.schema_version} is newer than {SCHEMA_VERSION}",
            "Upgrade the workers before the publishers.",
        )
    return request
