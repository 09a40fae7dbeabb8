"""What a job with several sources may take of a worker: processes for its videos, and downloads from the bucket."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import structlog

from soundfleet_producer.queue.verbs import Claim, Token
from soundfleet_schemas import (
    CATALOG,
    DEFAULT_LIMITS,
    JobSource,
    Keys,
    SeparationRequest,
    UploadSource,
    YouTubeSource,
    encode,
    new_id,
)
from soundfleet_worker.audio import sandbox
from soundfleet_worker.fetch import Fetched, VideoPolicy
from soundfleet_worker.supervisor import clock, fetching, prepare
from soundfleet_worker.supervisor.reporter import Reporter
from soundfleet_worker.supervisor.run import Run
from soundfleet_worker.supervisor.scratch import Scratch
from soundfleet_worker.supervisor.sources import Unfinished
from soundfleet_worker.supervisor.tools import Tools

SHA = "ab" * 32
VIDEO = YouTubeSource(url="https://www.youtube.com/watch?v=aaaaaaaaaaa")


def run_of(request: SeparationRequest, scratch: Path) -> Run:
    """A run of the request that has begun."""
    claim = Claim(Token(request.id, "w", 1), tries=1, crashes=0, raw_request=encode(request), created_at_ms=0)
    run = Run(claim, clock.now(), DEFAULT_LIMITS, Scratch(str(scratch)), structlog.get_logger(), fetches=True)
    run.request = request
    return run


async def test_no_more_videos_are_read_at_once_than_there_are_slots_however_many_a_job_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a process of hundreds of megabytes; a separation may name seven."""
    now, most = 0, 0

    async def fetch_video(*_: object) -> Fetched:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await asyncio.sleep(0)
        now -= 1
        return Fetched(1, SHA, "www.youtube.com", "audio/webm", "a.webm")

    async def probe(*_: object) -> None:
        """Everything is audio."""

    class Stop(Exception):
        """All are downloaded."""

    def stop(*_: object) -> None:
        raise Stop

    monkeypatch.setattr(fetching, "fetch_video", fetch_video)
    monkeypatch.setattr(fetching, "fingerprint", stop)
    monkeypatch.setattr(sandbox, "probe_in_process", probe)
    stems = ("drums", "bass", "other", "vocals")
    request = SeparationRequest(source=VIDEO, references=dict.fromkeys(stems, VIDEO))
    tools = SimpleNamespace(
        limits=DEFAULT_LIMITS,
        video_policy=VideoPolicy(),
        videos=asyncio.Semaphore(2),
        decoding=asyncio.Semaphore(1),
        keeper=SimpleNamespace(catalog=CATALOG),
    )
    reporter = cast(Reporter, SimpleNamespace(tell=lambda _news: None))
    with pytest.raises(Stop):
        await fetching.fetch(run_of(request, tmp_path), reporter, cast(Tools, tools))
    assert most == 2


async def test_a_job_that_waits_for_another_downloads_nothing_meanwhile(tmp_path: Path) -> None:
    """It looks again and again; its other sources are fetched when all of them are there."""
    fetched: list[str] = []

    class Server:
        async def hmget(self, *_: str) -> list[bytes | None]:
            await asyncio.sleep(0.01)
            return [b"processing", None, None]

    upload = UploadSource(key=f"uploads/{SHA}", sha256=SHA, size_bytes=1)
    request = SeparationRequest(source=upload, references={"drums": JobSource(job_id=new_id(), stem="drums")})
    with ThreadPoolExecutor(1) as preparers:
        tools = SimpleNamespace(
            redis=Server(),
            keys=Keys("test"),
            limits=DEFAULT_LIMITS,
            preparers=preparers,
            storage=SimpleNamespace(fetch=lambda _bucket, key, *_: fetched.append(key)),
        )
        with pytest.raises(Unfinished):
            await prepare._fetch_all(run_of(request, tmp_path), request, cast(Tools, tools))
    assert fetched == []
