"""Fetch: download what lies behind a job's web addresses, store it, and forward the job to its backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from redis.exceptions import RedisError

from soundfleet_producer.queue.exchange import unavailable
from soundfleet_producer.queue.records import read_backends
from soundfleet_schemas import (
    BackendSpec,
    JobRequest,
    Stage,
    UploadSource,
    UrlSource,
    YouTubeSource,
    backend_of,
    fingerprint,
    kind_of,
    lane_of,
    validate,
    web_sources,
    with_sources,
)

from ..fetch import Fetched, OnProgress, fetch_url, fetch_video, takes
from ..logging import Event
from .outcome import Completed, Forward
from .prepare import known_work, read
from .reporter import News, Reporter
from .run import Run
from .together import all_of
from .tools import Tools

KIBIBYTE = 1024


class WebFile(NamedTuple):
    """What was downloaded."""

    path: Path
    fetched: Fetched


async def fetch(run: Run, reporter: Reporter, tools: Tools) -> Completed | Forward:
    """Return the way to the job's backend, with what was stored; or the completed job of earlier, equal work.

    Raises what is wrong with the request, its addresses, or the files behind them: no device was touched by then.
    """
    progress = _Progress(reporter)
    request = run.request = read(run.claim.raw_request, run.token.job_id)
    run.log = run.log.bind(kind=kind_of(request))
    spec = validate(request, tools.limits, await _catalog(request, tools))
    named = web_sources(request)
    found = await all_of([_download(run, name, source, progress, tools) for name, source in named.items()])
    files = dict(zip(named, found, strict=True))
    track_id = fingerprint(request, spec, {name: file.fetched.sha256 for name, file in files.items()})
    if known := await known_work(run, request, track_id, tools):
        return known
    run.check_lease()
    stored = await all_of([run.in_thread(tools.fetchers, _store, file, tools) for file in files.values()])
    uploads = dict(zip(named, stored, strict=True))
    return Forward(lane_of(with_sources(request, dict(uploads))), uploads)


async def _catalog(request: JobRequest, tools: Tools) -> Mapping[str, BackendSpec]:
    """Every backend that the request may name: a foreign one is another worker's, which has published it."""
    name = backend_of(request)
    if name in tools.keeper.catalog:
        return tools.keeper.catalog
    try:
        document = await tools.redis.hget(tools.keys.backends, name)
    except RedisError as exc:
        raise unavailable(exc) from exc
    return {**tools.keeper.catalog, **{spec.backend: spec for spec in read_backends([document])}}


async def _download(
    run: Run, name: str, source: UrlSource | YouTubeSource, progress: _Progress, tools: Tools
) -> WebFile:
    """Download one file, here in the event loop: stopping the run ends it at once. Look whether it is audio."""
    from ..audio.sandbox import probe_in_process

    run.directory.mkdir(mode=0o700, exist_ok=True)
    path = run.directory / name
    told, limits = progress.of(name), tools.limits
    is_video = takes(source.url, tools.video_policy)
    if is_video:
        async with tools.videos:
            fetched = await fetch_video(source.url, path, limits, tools.video_policy, told)
    else:
        fetched = await fetch_url(source.url, path, limits.max_file_bytes, tools.fetch_policy, on_progress=told)
    run.log.info(Event.fetched, **fetched._asdict())
    async with tools.decoding:
        await probe_in_process(path, limits.of_any_format() if is_video else limits)
    return WebFile(path, fetched)


def _store(file: WebFile, tools: Tools) -> UploadSource:
    """Put a file where a publisher's uploads lie, unless its bytes are there."""
    stored = tools.storage.upload_source(file.path, None, file.fetched.filename or None)
    file.path.unlink()
    return stored


class _Progress:
    """The downloads of one run as its news, in KiB."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._sizes: dict[str, tuple[int, int | None]] = {}
        self._tell()

    def of(self, name: str) -> OnProgress:
        """Return what is told of one download."""
        self._sizes[name] = (0, None)

        def told(size: int, total: int | None) -> None:
            self._sizes[name] = (size, total)
            self._tell()

        return told

    def _tell(self) -> None:
        come = sum(size for size, _ in self._sizes.values())
        totals = [total for _, total in self._sizes.values()]
        total = sum(size or 0 for size in totals) if all(totals) else 0
        self._reporter.tell(News(Stage.fetch, come // KIBIBYTE, -(-total // KIBIBYTE), lambda: None))
