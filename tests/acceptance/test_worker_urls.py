"""A worker fetches a file behind an address: from where the operator allows, and what it cannot have it says."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import media
from tests.fleet import Fleet
from tests.sites import TLS, Site
from tests.waiting import wait_until

from soundfleet_schemas import (
    ErrorCode,
    EventType,
    Job,
    JobStatus,
    SeparationRequest,
    StemSeparationOptions,
)

ALLOWED = {"SOUNDFLEET_FETCH_NETWORKS": "127.0.0.1/32", "SSL_CERT_FILE": str(TLS / "ca.pem")}
SEPARATES = ALLOWED | {"SOUNDFLEET_ONLY": "separate.htdemucs_mini"}
MINI = StemSeparationOptions(model="htdemucs_mini", shifts=0)


@pytest.fixture
def song(tmp_path: Path) -> bytes:
    """Two seconds of music, as a WAV file's bytes."""
    return media.write(tmp_path / "song.wav", media.music(2.0)).read_bytes()


@pytest.fixture
def site(song: bytes) -> Iterator[Site]:
    """A plain web server."""
    site = Site(song, tls=False)
    yield site
    site.close()


@pytest.fixture
def secure_site(song: bytes) -> Iterator[Site]:
    """The same behind TLS."""
    site = Site(song, tls=True)
    yield site
    site.close()


def separate(fleet: Fleet, url: str) -> str:
    """Ask for the stems of what lies behind an address; return the job's id."""
    return fleet.submit(SeparationRequest(source=url, options=MINI))


def refused(fleet: Fleet, job_id: str, code: ErrorCode) -> Job:
    """Wait for a job to fail at its first attempt, for good."""
    job = fleet.ended(job_id)
    assert (job.status, job.error.code, job.attempt) == (JobStatus.failed, code, 1)
    letter = fleet.producer.dead_letter(job_id)
    assert (letter.reason, letter.error.code) == ("permanent", code)
    return job


def test_a_file_behind_an_address_is_separated_and_its_content_is_known_again(
    fleet: Fleet, site: Site, secure_site: Site
) -> None:
    """By https and by http; the second has other words before the same bytes, and is answered from the first."""
    worker = fleet.start(**SEPARATES)
    first = fleet.completed(separate(fleet, f"{secure_site.url}/song.wav"))
    assert not first.cached
    assert set(first.result.stems) == {"drums", "bass", "other", "vocals"}
    assert first.result.processing_metrics.input_file_size > 0
    again = fleet.completed(separate(fleet, f"{site.url}/song.wav?token=1"))
    assert again.cached
    assert again.result.fingerprint == first.result.fingerprint
    assert (secure_site.asked, site.asked) == (["/song.wav"], ["/song.wav?token=1"])
    assert [event["filename"] for event in worker.events("source fetched")] == ["song.wav", "song.wav"]


def test_a_private_address_that_nobody_allowed_is_refused_once(fleet: Fleet, site: Site) -> None:
    """Nothing is sent there; one attempt, a dead letter."""
    fleet.start(**ALLOWED | {"SOUNDFLEET_FETCH_NETWORKS": "10.9.0.0/16"})
    for url in (f"{site.url}/song.wav", "http://169.254.169.254/latest/meta-data/", "http://[::1]/", "http://0x7f.1/"):
        refused(fleet, separate(fleet, url), ErrorCode.SOURCE_FORBIDDEN)
    assert site.asked == []


def test_a_missing_file_is_refused_once_and_a_host_that_is_away_is_asked_again(fleet: Fleet, site: Site) -> None:
    """404 is for good; 503 is tried as often as anything transient, then it is a dead letter."""
    fleet.start(**ALLOWED)
    missing, away = separate(fleet, f"{site.url}/missing.wav"), separate(fleet, f"{site.url}/away.wav")
    refused(fleet, missing, ErrorCode.SOURCE_NOT_FOUND)
    job = fleet.ended(away)
    assert (job.status, job.error.code, job.attempt) == (JobStatus.failed, ErrorCode.SOURCE_UNAVAILABLE, 3)
    letter = fleet.producer.dead_letter(away)
    assert (letter.reason, letter.attempts) == ("attempts", 3)
    assert site.asked.count("/away.wav") == 3


def test_a_file_over_the_limit_is_refused_once(fleet: Fleet, site: Site, song: bytes) -> None:
    """The limit is that of every source."""
    fleet.start(**ALLOWED, SOUNDFLEET_LIMITS_MAX_FILE_BYTES=str(len(song) - 1))
    refused(fleet, separate(fleet, f"{site.url}/song.wav"), ErrorCode.FILE_TOO_LARGE)


def test_a_cancelled_fetch_ends_at_once_and_leaves_nothing(fleet: Fleet, site: Site) -> None:
    """The host that hangs is let go, the scratch directory is empty, and the next job is served."""
    fleet.start(**ALLOWED)
    job_id = separate(fleet, f"{site.url}/slow.wav")
    assert site.hanging.wait(30)
    fleet.producer.cancel(job_id)
    job = fleet.ended(job_id, timeout=10)
    assert (job.status, job.error.code) == (JobStatus.cancelled, ErrorCode.SEPARATION_CANCELLED)
    assert site.gone.wait(10)
    wait_until(lambda: not [path for path in fleet.stack.scratch.rglob("*") if path.is_file()], "an empty scratch")
    following = separate(fleet, f"{site.url}/song.wav")
    wait_until(lambda: EventType.fetched in fleet.told(following), "the next download")
    fleet.producer.cancel(following)


def test_a_drain_does_not_wait_for_a_host_that_hangs(fleet: Fleet, site: Site) -> None:
    """The job goes back to its lane with nothing charged, and the worker is gone within its grace."""
    worker = fleet.start(**ALLOWED, SOUNDFLEET_GRACE_SEC="0")
    job_id = separate(fleet, f"{site.url}/slow.wav")
    assert site.hanging.wait(30)
    assert worker.stop(15) == 0
    assert site.gone.wait(10)
    assert fleet.told(job_id) == [EventType.claimed, EventType.requeued]
    fleet.producer.cancel(job_id)


def test_a_fetch_ends_with_its_lease(fleet: Fleet, site: Site) -> None:
    """Whoever lost the job in mid-fetch lets the host go, and keeps no file of what is another's now."""
    lease = {"SOUNDFLEET_LIMITS_LEASE_SEC": "2", "SOUNDFLEET_LIMITS_RENEW_EVERY_SEC": "0.5"}
    stopped = fleet.start(**ALLOWED, **lease)
    job_id = separate(fleet, f"{site.url}/slow.wav")
    assert site.hanging.wait(30)
    stopped.send(signal.SIGSTOP)
    other = fleet.start(**ALLOWED, **lease)
    wait_until(lambda: fleet.producer.status(job_id).worker == other.id, "the other worker to take the job")
    assert not site.gone.is_set()
    stopped.send(signal.SIGCONT)
    assert site.gone.wait(10)
    wait_until(lambda: stopped.events("job lost to its lease"), "the stopped worker to give the job up")
    assert stopped.stop() == 0
    fleet.producer.cancel(job_id)
    assert fleet.ended(job_id).status is JobStatus.cancelled


def test_a_network_that_cannot_be_read_keeps_a_worker_from_starting(fleet: Fleet) -> None:
    """One line that names the setting."""
    worker = fleet.start(ready=False, SOUNDFLEET_FETCH_NETWORKS="10.0.0.1/8")
    assert worker.process.wait(30) == 1
    assert "fetch_networks: 10.0.0.1/8 has host bits set" in worker.log.read_text()
