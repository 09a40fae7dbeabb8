"""Prepare: decode and check the request, look for finished work, fetch the source, decode the audio."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from soundfleet_producer.drafts import seed_of
from soundfleet_schemas import (
    SOURCE,
    BackendSpec,
    ErrorCode,
    GenerationRequest,
    JobRequest,
    Limits,
    LocalFile,
    decode_request,
    error,
    fingerprint,
    kind_of,
    parse_source,
    plan_separation,
    validate,
)

from ..fetch import fetch_url
from ..logging import Event
from .outcome import Completed
from .run import Run
from .sources import Source, WebFile, locate
from .tools import Tools


class Work(NamedTuple):
    """A job that is ready for the engine."""

    request: JobRequest
    spec: BackendSpec
    fingerprint: str | None
    audio_sec: float
    """Of the input of a separation, or asked of a generation."""
    files: int
    """How many will be delivered."""
    inputs: Mapping[str, Path] = {}
    """Decoded audio by name."""
    input_bytes: int = 0

    @property
    def is_generation(self) -> bool:
        return isinstance(self.request, GenerationRequest)


Prepared: TypeAlias = Work | Completed


async def prepare(run: Run, tools: Tools) -> Prepared:
    """Return the work, or the completed job when an earlier one made the same output.

    Raises what is wrong with the request or its source.
    """
    request = run.request = read(run.claim.raw_request, run.token.job_id)
    run.log = run.log.bind(kind=kind_of(request))
    spec = validate(request, tools.limits, tools.keeper.catalog)
    track_id = fingerprint(request, spec)
    if known := await _known(run, request, track_id, tools):
        return known
    if isinstance(request, GenerationRequest):
        return Work(request, spec, track_id, float(request.duration_sec), 1)
    assert not isinstance(request.source, str)
    source = await locate(request.source, tools)
    if isinstance(source, WebFile):
        path, size, sha256 = await _fetch_web(run, source, tools)
    else:
        path, size, sha256 = await run.in_thread(tools.preparers, _fetch, run.directory, source, tools)
    if track_id is None:
        track_id = fingerprint(request, spec, sha256)
        if known := await _known(run, request, track_id, tools):
            return known
    decoded = path.with_suffix(".npy")
    audio_sec = await _decode(path, decoded, spec, _accepting(tools.limits, source), tools)
    path.unlink()
    files = len(plan_separation(request.options, spec).stems)
    return Work(request, spec, track_id, audio_sec, files, {SOURCE: decoded}, size)


def read(raw: bytes, job_id: str) -> JobRequest:
    """Decode a request and complete what a publisher in another language may have left open."""
    request = decode_request(raw)
    if request.id != job_id:
        raise error(ErrorCode.INVALID_MESSAGE, f"the request of job {job_id} says that its id is {request.id!r}")
    if isinstance(request, GenerationRequest):
        if request.seed is None:
            return msgspec.structs.replace(request, seed=seed_of(job_id))
    elif isinstance(request.source, str):
        source = parse_source(request.source)
        if not isinstance(source, LocalFile):  # which validation refuses, with advice
            return msgspec.structs.replace(request, source=source)
    return request


async def _known(run: Run, request: JobRequest, track_id: str | None, tools: Tools) -> Completed | None:
    if track_id is None or not request.use_cache:
        return None
    result = await tools.cache.find(track_id)
    if result is None:
        return None
    return Completed(msgspec.structs.replace(result, job_id=run.token.job_id, cached=True), track_id)


async def _fetch_web(run: Run, source: WebFile, tools: Tools) -> tuple[Path, int, str]:
    """Fetch the file behind an address, here in the event loop: stopping the run ends it at once."""
    run.directory.mkdir(mode=0o700, exist_ok=True)
    path = run.directory / "source"
    file = await fetch_url(source.url, path, source.max_bytes, tools.fetch_policy)
    run.log.info(Event.fetched, **file._asdict())
    return path, file.size_bytes, file.sha256


def _fetch(directory: Path, source: Source, tools: Tools) -> tuple[Path, int, str]:
    """Download the source; return the file, its size and its SHA-256."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / "source"
    size = tools.storage.fetch(source.bucket, source.key, path, source.max_bytes)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if source.sha256 is not None and source.sha256 != sha256:
        raise error(ErrorCode.AUDIO_CORRUPT, f"{source.key} is not what was uploaded", "Upload the file again.")
    return path, size, sha256


def _accepting(limits: Limits, source: Source | WebFile) -> Limits:
    return msgspec.structs.replace(limits, max_file_bytes=source.max_bytes)


async def _decode(path: Path, decoded: Path, spec: BackendSpec, limits: Limits, tools: Tools) -> float:
    """Decode to a float32 ``.npy``; return the seconds of audio."""
    from ..audio.sandbox import decode_in_process

    async with tools.decoding:
        info = await decode_in_process(path, decoded, spec.sample_rate, limits)
    if info.duration_sec > spec.max_duration_sec:
        allowed = f"{spec.backend} takes at most {spec.max_duration_sec:g} s"
        raise error(ErrorCode.AUDIO_TOO_LONG, f"the audio lasts {info.duration_sec:.0f} s; {allowed}")
    return info.duration_sec
