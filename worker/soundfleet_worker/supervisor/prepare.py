"""Prepare: decode and check the request, look for finished work, fetch the sources, decode the audio."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from soundfleet_producer.drafts import seed_of
from soundfleet_schemas import (
    REFERENCE,
    SOURCE,
    AudioSource,
    BackendSpec,
    ErrorCode,
    GenerationRequest,
    JobRequest,
    Limits,
    LocalFile,
    S3Source,
    SoundfleetError,
    UploadSource,
    decode_request,
    error,
    fingerprint,
    kind_of,
    lane_of,
    parse_source,
    plan_separation,
    sources_of,
    validate,
    web_sources,
    with_sources,
)

from ..audio.info import AudioInfo
from ..audio.rates import check_rate
from .outcome import Completed, Forward
from .run import Run
from .sources import Source, locate
from .together import all_of
from .tools import Tools

_FETCHED = msgspec.json.Decoder(dict[str, UploadSource])


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
    """Decoded audio by name, for the engine: ``.npy`` of float32, (2, samples), at ``spec.sample_rate``."""
    input_bytes: int = 0
    """Of the files behind ``inputs``."""
    references: Mapping[str, Path] = {}
    """Decoded true stems by name, of the same shape and rate: the result is measured against them."""
    input_rate: int = 0
    """Of the source's own file, Hz; 0 without a source."""

    @property
    def is_generation(self) -> bool:
        return isinstance(self.request, GenerationRequest)


class File(NamedTuple):
    """The file of a source, in scratch."""

    path: Path
    size_bytes: int
    sha256: str
    max_bytes: int
    is_brought: bool = True
    """By the caller, and not another job's output, or judged already when it was fetched."""


Prepared: TypeAlias = Work | Completed | Forward


async def prepare(run: Run, tools: Tools) -> Prepared:
    """Return the work; or the completed job when an earlier one made the same output; or where it is to be fetched.

    Raises what is wrong with the request or its sources.
    """
    request = run.request = read(run.claim.raw_request, run.token.job_id)
    run.log = run.log.bind(kind=kind_of(request))
    spec = validate(request, tools.limits, tools.keeper.catalog)
    request = _with_fetched(request, run.claim.fetched)
    if web_sources(request):  # of a publisher that knows of no lane for them
        return Forward(lane_of(request))
    track_id = fingerprint(request, spec)
    if known := await known_work(run, request, track_id, tools):
        return known
    asked_sec = float(request.duration_sec) if isinstance(request, GenerationRequest) else 0.0
    work = Work(request, spec, track_id, asked_sec, files=1)
    if not sources_of(request):
        return work
    files = await _fetch_all(run, request, tools)
    if track_id is None:
        track_id = fingerprint(request, spec, {name: file.sha256 for name, file in files.items()})
        if known := await known_work(run, request, track_id, tools):
            return known
    return await _decode_all(work._replace(fingerprint=track_id), files, tools)


def read(raw: bytes, job_id: str) -> JobRequest:
    """Decode a request and complete what a publisher in another language may have left open."""
    request = decode_request(raw)
    if request.id != job_id:
        raise error(ErrorCode.INVALID_MESSAGE, f"the request of job {job_id} says that its id is {request.id!r}")
    if isinstance(request, GenerationRequest) and request.seed is None:
        request = msgspec.structs.replace(request, seed=seed_of(job_id))
    typed = {name: parse_source(text) for name, text in sources_of(request).items() if isinstance(text, str)}
    # A local file stays as it was written: validation refuses it, with advice.
    return with_sources(request, {name: it for name, it in typed.items() if not isinstance(it, LocalFile)})


def _with_fetched(request: JobRequest, fetched: bytes) -> JobRequest:
    """Put what a fetch worker stored in the place of the addresses that it fetched."""
    if not fetched:
        return request
    stored = _FETCHED.decode(fetched)
    return with_sources(request, {name: stored[name] for name in web_sources(request) if name in stored})


async def known_work(run: Run, request: JobRequest, track_id: str | None, tools: Tools) -> Completed | None:
    """The answer from finished work, if there is some and the request allows it."""
    if track_id is None or not request.use_cache:
        return None
    result = await tools.cache.find(track_id)
    if result is None:
        return None
    return Completed(msgspec.structs.replace(result, job_id=run.token.job_id, cached=True), track_id)


async def _fetch_all(run: Run, request: JobRequest, tools: Tools) -> dict[str, File]:
    """Download every source from its bucket, once all are there; as many at once as there are threads."""
    named = sources_of(request)
    located = await all_of([_locate(source, tools) for source in named.values()])
    found = await all_of([_fetch(run, name, it, tools) for name, it in zip(named, located, strict=True)])
    return dict(zip(named, found, strict=True))


async def _locate(source: AudioSource | str, tools: Tools) -> Source:
    assert not isinstance(source, str)
    return await locate(source, tools)


async def _fetch(run: Run, name: str, found: Source, tools: Tools) -> File:
    try:
        file = await run.in_thread(tools.preparers, _download, run.directory / name, found, tools)
    except SoundfleetError as exc:
        if exc.code is not ErrorCode.SOURCE_NOT_FOUND or run.request is None or name not in web_sources(run.request):
            raise
        gone = f"{found.key}, which was fetched from an address, is not in the bucket any more"
        raise error(ErrorCode.SOURCE_NOT_FOUND, gone, "Submit it again; let uploads live longer.") from exc
    assert run.request is not None
    return file._replace(is_brought=isinstance(sources_of(run.request)[name], UploadSource | S3Source))


def _download(path: Path, source: Source, tools: Tools) -> File:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    size = tools.storage.fetch(source.bucket, source.key, path, source.max_bytes)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if source.sha256 is not None and source.sha256 != sha256:
        raise error(ErrorCode.AUDIO_CORRUPT, f"{source.key} is not what was uploaded", "Upload the file again.")
    return File(path, size, sha256, source.max_bytes)


async def _decode_all(work: Work, files: Mapping[str, File], tools: Tools) -> Work:
    """Decode every source; say what of it is the engine's, and what the result is measured against."""
    infos = await all_of([_decode(file, work, tools) for file in files.values()])
    decoded = {name: _decoded(file) for name, file in files.items()}
    stems = {name.removeprefix(f"{REFERENCE}."): path for name, path in decoded.items() if "." in name}
    inputs = {name: path for name, path in decoded.items() if "." not in name}
    rates = {name: info.sample_rate for name, info in zip(files, infos, strict=True)}
    work = work._replace(
        inputs=inputs,
        references=stems,
        input_bytes=sum(files[name].size_bytes for name in inputs),
        input_rate=rates.get(SOURCE, 0),
    )
    if isinstance(work.request, GenerationRequest):
        return work
    check_rate(work.request.options, rates[SOURCE])
    lengths = {name: info.duration_sec for name, info in zip(files, infos, strict=True)}
    return work._replace(audio_sec=lengths[SOURCE], files=len(plan_separation(work.request.options, work.spec).stems))


async def _decode(file: File, work: Work, tools: Tools) -> AudioInfo:
    """Decode to a float32 ``.npy`` beside the file, which goes."""
    from ..audio.sandbox import decode_in_process

    limits = _limits_of(file, work, tools.limits)
    async with tools.decoding:
        info = await decode_in_process(file.path, _decoded(file), work.spec.sample_rate, limits)
    file.path.unlink()
    return info


def _limits_of(file: File, work: Work, limits: Limits) -> Limits:
    """What is accepted of one file: the fleet's limits, and the backend's where that separates no such length."""
    longest = limits.max_audio_sec if work.is_generation else min(limits.max_audio_sec, work.spec.max_duration_sec)
    limits = limits if file.is_brought else limits.of_any_format()
    return msgspec.structs.replace(limits, max_file_bytes=file.max_bytes, max_audio_sec=longest)


def _decoded(file: File) -> Path:
    return file.path.with_name(f"{file.path.name}.npy")
