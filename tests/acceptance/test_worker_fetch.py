"""Downloads are a lane of their own: workers without an engine serve it, and an engine never waits for a host."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests import media
from tests.fleet import Fleet
from tests.hands import Hands
from tests.sites import Site
from tests.waiting import wait_until
from tests.workers import WorkerProcess

from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.exchange import perform
from soundfleet_schemas import (
    CATALOG,
    ErrorCode,
    EventType,
    Job,
    JobSource,
    JobStatus,
    SeparationRequest,
    Stage,
    StemSeparationOptions,
    UploadSource,
    backend_of,
    fingerprint,
)

LOOPBACK = {"SOUNDFLEET_FETCH_NETWORKS": "127.0.0.1/32"}
FETCHES = LOOPBACK | {"SOUNDFLEET_ONLY": "fetch.web"}
SEPARATES = {"SOUNDFLEET_ONLY": "separate.htdemucs_mini", "SOUNDFLEET_FETCH_SLOTS": "0"}
BOTH = LOOPBACK | {"SOUNDFLEET_ONLY": "separate.htdemucs_mini", "SOUNDFLEET_SLOTS": "1"}
MINI = StemSeparationOptions(model="htdemucs_mini", shifts=0)
SHORT_LEASE = {"SOUNDFLEET_LIMITS_LEASE_SEC": "2", "SOUNDFLEET_LIMITS_RENEW_EVERY_SEC": "0.4"}
FETCHED_FIRST = [EventType.claimed, EventType.fetched, EventType.claimed, EventType.completed]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A web server with two seconds of music."""
    song = media.write(tmp_path / "song.wav", media.music(2.0)).read_bytes()
    site = Site(song, tls=False)
    yield site
    site.close()


def fetcher(fleet: Fleet, **env: str) -> WorkerProcess:
    """Start a worker without an engine."""
    worker = fleet.start(ready=False, **FETCHES | env)
    wait_until(lambda: worker.events("worker started") or worker.process.poll() is not None, "a worker")
    assert worker.process.poll() is None, worker.log.read_text()
    return worker


def separate(fleet: Fleet, url: str) -> str:
    """Ask for the stems of what lies behind an address; return the job's id."""
    return fleet.submit(SeparationRequest(source=url, options=MINI))


def files_in(directory: Path) -> list[Path]:
    """What lies in a directory, at any depth."""
    return [path for path in directory.rglob("*") if path.is_file()]


def test_one_worker_downloads_and_another_separates(fleet: Fleet, site: Site) -> None:
    """The first has no engine and no torch; the second asks no host; between them lies the bucket."""
    separates, downloads = fleet.start(ready=False, **SEPARATES), fetcher(fleet)
    job = fleet.completed(separate(fleet, f"{site.url}/song.wav"))
    assert set(job.result.stems) == {"drums", "bass", "other", "vocals"}
    assert (job.status, job.attempt, job.crashes, job.input_source) == (
        JobStatus.completed, 2, 0, f"{site.url}/song.wav",
    )  # fmt: skip
    assert fleet.told(job.id) == FETCHED_FIRST
    assert [e.worker for e in fleet.events(job.id) if e.type is EventType.claimed] == [downloads.id, separates.id]
    assert site.asked == ["/song.wav"]
    assert [event["filename"] for event in downloads.events("source fetched")] == ["song.wav"]
    assert separates.events("source fetched") == []
    assert any(key.startswith("uploads/") and key.endswith(".wav") for key in fleet.objects())
    assert "torch" not in Path(f"/proc/{downloads.pid}/maps").read_text()
    assert Path(f"/proc/{downloads.pid}/task/{downloads.pid}/children").read_text() == ""
    wait_until(lambda: not files_in(fleet.stack.scratch), "an empty scratch")


def test_what_a_worker_without_an_engine_offers_is_seen(fleet: Fleet) -> None:
    """It holds downloads and nothing else, and takes no job of an engine."""
    worker = fetcher(fleet, SOUNDFLEET_FETCH_SLOTS="3")
    (info,) = wait_until(fleet.producer.workers, "the worker's record")
    assert (info.id, info.engine, info.device, info.backends) == (worker.id, "none", "none", ())
    assert (info.capacity, info.fetch_capacity) == (0, 3)
    assert worker.stop() == 0


def test_a_slow_download_delays_no_job_of_an_engine(fleet: Fleet, site: Site) -> None:
    """One worker with one slot of each kind: the host hangs, and the engine's jobs are done meanwhile."""
    fleet.start(**LOOPBACK, SOUNDFLEET_SLOTS="1", SOUNDFLEET_FETCH_SLOTS="1")
    hanging = separate(fleet, f"{site.url}/slow.wav")
    assert site.hanging.wait(30)
    fleet.completed(fleet.slow("steps=2"))
    job = fleet.producer.status(hanging)
    assert (job.status, job.progress, job.stage) == (JobStatus.processing, 0, Stage.fetch)
    updates = [e.progress for e in fleet.events(hanging) if e.progress is not None]
    assert {update.percent for update in updates} == {0}
    assert 0 < updates[-1].current_step < updates[-1].total_steps
    fleet.producer.cancel(hanging)
    assert fleet.ended(hanging, timeout=10).status is JobStatus.cancelled


def test_an_engine_that_is_busy_delays_no_download(fleet: Fleet, site: Site) -> None:
    """Its one slot is taken; the audio of the next job is fetched meanwhile, and waits in its backend's lane."""
    fleet.start(**LOOPBACK, SOUNDFLEET_SLOTS="1")
    busy = fleet.slow("steps=100000 step_sec=0.05")
    fleet.running(busy)
    job_id = separate(fleet, f"{site.url}/song.wav")
    wait_until(lambda: EventType.fetched in fleet.told(job_id), "the download")
    assert fleet.producer.status(busy).status is JobStatus.processing
    job = fleet.producer.status(job_id)
    assert (job.status, job.worker, job.stage, job.ahead) == (JobStatus.processing, None, None, 0)
    for waiting in (busy, job_id):
        fleet.producer.cancel(waiting)
        assert fleet.ended(waiting).status is JobStatus.cancelled


def test_a_worker_that_is_killed_in_mid_download_loses_its_job_to_another(fleet: Fleet, site: Site) -> None:
    """Which downloads it again; what the dead one left in scratch is swept."""
    killed = fetcher(fleet, **SHORT_LEASE)
    job_id = separate(fleet, f"{site.url}/once.wav")
    assert site.hanging.wait(30)
    wait_until(lambda: files_in(fleet.stack.scratch), "the first bytes on disk")
    killed.kill()
    fetcher(fleet, **SHORT_LEASE)
    wait_until(lambda: EventType.fetched in fleet.told(job_id), "the second download")
    assert fleet.told(job_id) == [EventType.claimed, EventType.lost, EventType.claimed, EventType.fetched]
    assert site.asked == ["/once.wav", "/once.wav"]
    wait_until(lambda: not files_in(fleet.stack.scratch), "an empty scratch")
    job = fleet.producer.status(job_id)
    assert (job.attempt, job.crashes, job.worker) == (2, 1, None)
    fleet.producer.cancel(job_id)
    assert fleet.ended(job_id).error.code is ErrorCode.SEPARATION_CANCELLED


def test_a_download_that_is_cancelled_ends_at_once_and_leaves_nothing(fleet: Fleet, site: Site) -> None:
    """On a worker that only downloads; the next one is served."""
    fetcher(fleet, SOUNDFLEET_FETCH_SLOTS="1")
    job_id = separate(fleet, f"{site.url}/slow.wav")
    assert site.hanging.wait(30)
    fleet.producer.cancel(job_id)
    job = fleet.ended(job_id, timeout=10)
    assert (job.status, job.error.code) == (JobStatus.cancelled, ErrorCode.SEPARATION_CANCELLED)
    assert "in stage fetch" in job.error.message
    assert site.gone.wait(10)
    wait_until(lambda: not files_in(fleet.stack.scratch), "an empty scratch")
    following = separate(fleet, f"{site.url}/song.wav")
    wait_until(lambda: EventType.fetched in fleet.told(following), "the next download")
    fleet.producer.cancel(following)


def test_equal_bytes_behind_another_address_are_answered_without_an_engine(
    fleet: Fleet, site: Site, hands: Hands
) -> None:
    """Finished work is found by its content as soon as that is known."""
    fetcher(fleet)
    first = separate(fleet, f"{site.url}/song.wav")
    wait_until(lambda: EventType.fetched in fleet.told(first), "the download")
    claim = hands.claim()
    upload = msgspec.json.decode(claim.fetched, type=dict[str, UploadSource])["source"]
    work = fingerprint(SeparationRequest(source=upload, options=MINI), CATALOG["htdemucs_mini"])
    hands.complete(claim.token, {"vocals": b"sung"}, work)
    again = fleet.completed(separate(fleet, f"{site.url}/copy.wav"))
    assert (again.cached, again.attempt, set(again.result.stems)) == (True, 1, {"vocals"})
    assert fleet.told(again.id) == [EventType.claimed, EventType.completed]


def test_what_is_no_audio_is_refused_before_an_engine_is_asked(fleet: Fleet, site: Site) -> None:
    """By its content, once; nothing of it is stored."""
    fetcher(fleet)
    expected = {"words.wav": ErrorCode.UNSUPPORTED_FORMAT, "missing.wav": ErrorCode.SOURCE_NOT_FOUND}
    for name, code in expected.items():
        job = fleet.ended(separate(fleet, f"{site.url}/{name}"))
        assert (job.status, job.error.code, job.attempt) == (JobStatus.failed, code, 1)
    assert fleet.objects() == []


def test_a_job_of_a_publisher_that_knows_of_no_such_lane_is_downloaded_all_the_same(fleet: Fleet, site: Site) -> None:
    """The engine's worker that finds it hands it on, uncharged."""
    request = SeparationRequest(source=f"{site.url}/song.wav", options=MINI)
    exchange = verbs.submit(fleet.stack.keys, request, None, fleet.stack.settings.limits)
    assert exchange.args[4] == f"separate.{backend_of(request)}:normal", "a text is read by the worker"
    perform(fleet.stack.redis, exchange)
    fleet.start(**BOTH)
    job = fleet.completed(request.id)
    assert fleet.told(job.id) == [EventType.claimed, EventType.requeued, *FETCHED_FIRST]


def test_a_fetched_file_that_is_gone_is_a_clear_error(fleet: Fleet, site: Site) -> None:
    """The bucket's own rules have deleted it while the job waited for its backend."""
    fetcher(fleet)
    job_id = separate(fleet, f"{site.url}/song.wav")
    wait_until(lambda: EventType.fetched in fleet.told(job_id), "the download")
    (key,) = fleet.objects()
    fleet.stack.storage.delete(key)
    fleet.start(**SEPARATES)
    job = fleet.ended(job_id)
    assert (job.status, job.error.code) == (JobStatus.failed, ErrorCode.SOURCE_NOT_FOUND)
    assert "which was fetched from an address, is not in the bucket any more" in job.error.message


def test_sources_of_all_kinds_come_together(fleet: Fleet, site: Site, tmp_path: Path) -> None:
    """Two from the web, an upload, and a stem of a job that is not finished; all are known by their content afterwards.

    The one slot of the engine does that job meanwhile.
    """
    upload = fleet.producer.upload(media.write(tmp_path / "upload.wav", media.music(2.0, seed=5)))
    parent = fleet.submit(SeparationRequest(source=upload, options=MINI))
    references = {"bass": f"{site.url}/bass.wav", "drums": upload, "other": JobSource(job_id=parent, stem="other")}
    request = SeparationRequest(source=f"{site.url}/song.wav", references=references, options=MINI)
    job_id = fleet.submit(request)
    fleet.start(**BOTH)
    job: Job = fleet.completed(job_id)
    assert sorted(site.asked) == ["/bass.wav", "/song.wav"]
    assert job.result.fingerprint
    assert all(stem in job.result.quality_metrics.method for stem in references), "each was measured against"
    assert fleet.told(job.id)[:2] == FETCHED_FIRST[:2]
    assert fleet.told(job.id)[-2:] == FETCHED_FIRST[-2:]


def test_the_sound_of_a_video_host_is_downloaded_in_the_same_lane(fleet: Fleet, site: Site) -> None:
    """By yt-dlp, where the operator names the host; the engine sees an upload like any other."""
    fetcher(fleet, SOUNDFLEET_VIDEO_HOSTS="127.0.0.1")
    job_id = separate(fleet, f"{site.url}/song.wav")
    wait_until(lambda: fleet.told(job_id)[1:] or None, "the download")
    assert fleet.told(job_id) == [EventType.claimed, EventType.fetched], fleet.producer.status(job_id).error
    fleet.producer.cancel(job_id)


def test_an_engine_that_dies_ends_no_download(fleet: Fleet, site: Site) -> None:
    """And it is another attempt of its own runs only."""
    worker = fleet.start(**LOOPBACK)
    hanging = separate(fleet, f"{site.url}/once.wav")
    assert site.hanging.wait(30)
    os.kill(worker.engine_pid, signal.SIGKILL)
    worker.wait_ready(2)
    assert not site.gone.is_set()
    assert fleet.told(hanging) == [EventType.claimed]
    fleet.producer.cancel(hanging)
    assert fleet.ended(hanging).status is JobStatus.cancelled


def test_a_worker_that_may_only_download_and_may_not_does_not_start(fleet: Fleet) -> None:
    """One line that names both settings."""
    worker = fleet.start(ready=False, **FETCHES, SOUNDFLEET_FETCH_SLOTS="0")
    assert worker.process.wait(30) == 1
    assert "only names fetch.web, and fetch_slots is 0" in worker.log.read_text()
