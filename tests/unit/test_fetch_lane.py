"""The parts of the fetch lane: who claims, what is told of a download, and what is looked at before it is stored."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from structlog.testing import capture_logs
from tests import media

from soundfleet_producer.cli.doctor import _fetching
from soundfleet_producer.cli.progress import describe
from soundfleet_producer.queue.records import read_kind
from soundfleet_producer.queue.verbs import Claim, Reply, Token
from soundfleet_producer.settings import Settings
from soundfleet_schemas import (
    CATALOG,
    DEFAULT_LIMITS,
    ErrorCode,
    EventType,
    GenerationRequest,
    JobEvent,
    Keys,
    Lane,
    Priority,
    ProgressUpdate,
    SeparationRequest,
    SoundfleetError,
    Stage,
    UploadSource,
    UrlSource,
    encode,
    lane_of,
    new_id,
    sources_of,
    web_sources,
    with_sources,
)
from soundfleet_worker.audio.sandbox import probe_in_process
from soundfleet_worker.supervisor import clock, fetching, lifecycle
from soundfleet_worker.supervisor.claimer import Link
from soundfleet_worker.supervisor.fetching import _Progress
from soundfleet_worker.supervisor.outcome import Forward, Stop
from soundfleet_worker.supervisor.prepare import read
from soundfleet_worker.supervisor.reporter import News, Reporter
from soundfleet_worker.supervisor.run import Run
from soundfleet_worker.supervisor.scratch import Scratch
from soundfleet_worker.supervisor.together import all_of
from soundfleet_worker.supervisor.tools import Tools

SHA = "ab" * 32
URL = "https://example.org/a.wav"
SONG = UrlSource(url=URL)
UPLOAD = UploadSource(key=f"uploads/{SHA}", sha256=SHA, size_bytes=1)


class Deaf:
    """Takes news, and keeps it."""

    def __init__(self) -> None:
        self.news: list[News] = []

    def tell(self, news: News) -> None:
        self.news.append(news)


def test_a_download_is_told_in_kib_of_all_files_together() -> None:
    """The whole is known when every host has said its own; until then only what has come."""
    deaf = Deaf()
    progress = _Progress(cast(Reporter, deaf))
    mix, bass = progress.of("source"), progress.of("reference.bass")
    mix(10 * 1024, 40 * 1024)
    bass(1024, None)
    bass(2048, 10 * 1024)
    steps = [(news.current_step, news.total_steps) for news in deaf.news]
    assert steps == [(0, 0), (10, 0), (11, 0), (12, 50)]
    assert {news.stage for news in deaf.news} == {Stage.fetch}


async def test_the_percentage_of_a_job_is_zero_while_it_is_fetched_and_every_five_points_are_told() -> None:
    """The steps say how far the download is."""
    sent: list[ProgressUpdate] = []

    class Server:
        def perform(self, exchange: Any) -> asyncio.Future[Any]:
            sent.append(exchange.args)
            return asyncio.get_running_loop().create_future()

    run = SimpleNamespace(token=("job", "worker", 1))
    reporter = Reporter(cast(Any, run), Keys("test"), cast(Any, Server()))
    for size in (0, 500, 501, 1000):
        reporter.tell(News(Stage.fetch, size, 1000, lambda: None))
        await asyncio.sleep(0.1)
    reporter.close()
    told = [(args[3], args[4], args[5]) for args in cast(Any, sent)]
    assert [(percent, stage) for percent, stage, _ in told] == [(0, "fetch")] * 3
    assert [b'"current_step":%d,' % size in raw for size, (_, _, raw) in zip((0, 500, 1000), told, strict=True)] == [
        True, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "total", "words"),
    [
        (0, 0, "fetching the audio"),
        (1536, 0, "fetching the audio, 1.5 MiB"),
        (42, 100, "fetching the audio, 42 %"),
        (101, 100, "fetching the audio, 100 %"),
    ],
)
def test_a_download_is_described_by_its_share(step: int, total: int, words: str) -> None:
    """Nobody counts steps of a download."""
    update = ProgressUpdate(track_id="", percent=0, current_step=step, total_steps=total, stage=Stage.fetch)
    assert describe(JobEvent(job_id="j", type=EventType.progress, at_ms=1, progress=update)) == words


def test_a_fetched_job_is_described() -> None:
    """It waits again."""
    event = JobEvent(job_id="j", type=EventType.fetched, at_ms=1)
    assert describe(event) == "the audio is fetched; waiting for a worker"


@pytest.mark.parametrize(
    ("lane", "request_", "kind"),
    [
        (b"generate.sketch:high", b"{", "generate"),
        (b"fetch.web:normal", encode(SeparationRequest(source=SONG)), "separate"),
        (b"fetch.web:high", encode(GenerationRequest(prompt="x", duration_sec=5, reference=SONG)), "generate"),
        (b"fetch.web:high", b"{no json", ""),
    ],
)
def test_what_a_job_does_is_known_in_the_fetch_lane(lane: bytes, request_: bytes, kind: str) -> None:
    """Its request says it there."""
    assert read_kind(lane, request_) == kind


def test_what_is_fetched_takes_the_place_of_addresses_and_the_lane_is_the_backends() -> None:
    """Of a generation's sources, of a separation's, and of its references."""
    separation = SeparationRequest(source=UPLOAD, references={"bass": SONG, "drums": UPLOAD})
    assert web_sources(separation) == {"reference.bass": SONG}
    fetched = with_sources(separation, {"reference.bass": UPLOAD})
    assert sources_of(fetched) == {"source": UPLOAD, "reference.bass": UPLOAD, "reference.drums": UPLOAD}
    assert str(lane_of(fetched)) == "separate.htdemucs:normal"
    generation = GenerationRequest(prompt="x", duration_sec=5, backend="musicgen", reference=SONG)
    assert str(lane_of(generation)) == "fetch.web:normal"
    assert str(lane_of(with_sources(generation, {"reference": UPLOAD}))) == "generate.musicgen:normal"


def test_every_source_that_is_a_text_is_read_by_the_worker() -> None:
    """As of a publisher in another language."""
    request = SeparationRequest(source=URL, references={"bass": "s3://b/k.wav"})
    completed = read(encode(request), request.id)
    assert web_sources(completed) == {"source": SONG}
    assert not any(isinstance(source, str) for source in sources_of(completed).values())


async def test_a_foreign_backend_is_known_by_what_its_worker_has_published() -> None:
    """A worker without an engine asks Redis, and only for a name that it does not have."""
    spec = CATALOG["htdemucs"]
    asked: list[str] = []

    class Server:
        async def hget(self, _key: str, name: str) -> bytes | None:
            asked.append(name)
            return encode(type(spec)(**{f: getattr(spec, f) for f in spec.__struct_fields__} | {"backend": name}))

    keeper = SimpleNamespace(catalog=CATALOG)
    tools = cast(Tools, SimpleNamespace(keeper=keeper, redis=Server(), keys=Keys("test")))
    request = GenerationRequest(prompt="x", duration_sec=5, backend="theirs", reference=SONG)
    assert (await fetching._catalog(request, tools))["theirs"].backend == "theirs"
    assert await fetching._catalog(SeparationRequest(source=SONG), tools) is CATALOG
    assert asked == ["theirs"]


async def test_a_file_is_looked_at_in_a_process_of_its_own(tmp_path: Path) -> None:
    """What it is, or why it is refused; nothing is written."""
    song = media.write(tmp_path / "song", media.music(0.5), kind="flac16")
    info = await probe_in_process(song, DEFAULT_LIMITS)
    assert (info.format, info.sample_rate, info.duration_sec) == ("flac", 44_100, 0.5)
    with pytest.raises(SoundfleetError) as refused:
        await probe_in_process(media.text_file(tmp_path / "words"), DEFAULT_LIMITS)
    assert refused.value.code is ErrorCode.UNSUPPORTED_FORMAT
    assert sorted(os.listdir(tmp_path)) == ["song", "words"]


async def test_the_first_error_of_several_ends_the_others() -> None:
    """One download that is refused stops the rest of its job's, and they are over when it is told."""
    ended: list[str] = []

    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("hangs")

    async def fails() -> None:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        await all_of([hangs(), fails(), hangs()])
    assert ended == ["hangs", "hangs"]


def test_that_redis_is_away_is_said_once_by_all_claimers() -> None:
    """And that it is back when the last of them has heard of it."""
    engine, downloads = object(), object()
    with capture_logs() as logs:
        link = Link(structlog.get_logger())
        for _ in range(2):
            link.lost(engine, OSError("away"))
            link.lost(downloads, OSError("away"))
        link.back(engine)
        assert (link.away(engine), link.away(downloads)) == (False, True)
        link.back(downloads)
    assert [entry["event"] for entry in logs] == ["redis away", "redis back"]


def test_a_worker_that_names_fetching_alone_has_no_engine() -> None:
    """Beside others it is one service of several."""
    assert Settings(only=" fetch.web ,").fetches_only
    assert not Settings(only="fetch.web,separate.htdemucs").fetches_only
    assert not Settings().fetches_only


def test_doctor_warns_when_nobody_downloads() -> None:
    """Jobs with addresses would wait for ever."""
    worker = SimpleNamespace(fetch_capacity=0, draining=False)
    fetcher = SimpleNamespace(fetch_capacity=4, draining=False)
    leaving = SimpleNamespace(fetch_capacity=4, draining=True)
    assert _fetching(cast(Any, [worker, leaving])).verdict == "warning"
    assert _fetching(cast(Any, [worker, fetcher])).verdict == "ok"


@pytest.mark.parametrize("stop", [None, Stop.cancelled, Stop.drained, Stop.lost])
async def test_a_fetch_is_settled_like_any_run(
    stop: Stop | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forwarded when it ends well; what stops it meanwhile is what is settled, and of a lost lease nothing is said."""
    settled: list[str] = []
    uploads = {"source": UPLOAD}

    class Server:
        def perform(self, exchange: Any) -> Any:
            settled.append(exchange.script.name)
            return asyncio.sleep(0, Reply.ok)

    async def fetch(run: Run, *_: object) -> Forward:
        if stop is not None:
            run.stop(stop)
        await asyncio.sleep(0)
        return Forward(Lane("separate", "htdemucs", Priority.High), uploads)

    monkeypatch.setattr(lifecycle, "fetch", fetch)
    claim = Claim(Token(new_id(), "w", 1), tries=1, crashes=0, raw_request=b"", created_at_ms=0)
    run = Run(claim, clock.now(), DEFAULT_LIMITS, Scratch(str(tmp_path)), structlog.get_logger(), fetches=True)
    tools = SimpleNamespace(keys=Keys("test"), batcher=Server(), limits=DEFAULT_LIMITS)
    run.task = asyncio.ensure_future(lifecycle.live(run, cast(Tools, tools)))
    await run.task
    expected = {None: "forward", Stop.cancelled: "settle_cancelled", Stop.drained: "release"}
    assert settled == ([] if stop is Stop.lost else [expected[stop]])
