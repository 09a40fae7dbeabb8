"""Where the audio of a generation comes from: the web by the fetch lane, buckets, other jobs, and chains of these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import media, musicgen_checkpoint
from tests.fleet import Fleet
from tests.sites import TLS, Site
from tests.waiting import wait_until

from soundfleet_producer import GenerationRequest, SeparationRequest
from soundfleet_schemas import (
    ErrorCode,
    EventType,
    Job,
    JobStatus,
    S3Source,
    SongOptions,
    StemSeparationOptions,
    Task,
)

SERVICES = "generate.musicgen,generate.ace_step,generate.musicgen_melody,generate.slow,separate.htdemucs_mini"
ALLOWED = {"SOUNDFLEET_FETCH_NETWORKS": "127.0.0.1/32", "SSL_CERT_FILE": str(TLS / "ca.pem")}
FETCHED_FIRST = [EventType.claimed, EventType.fetched, EventType.claimed, EventType.completed]
COVER = SongOptions(task=Task.cover)
MINI = StemSeparationOptions(model="htdemucs_mini", shifts=0)


@pytest.fixture(scope="module")
def models(music_models: Path) -> Path:
    """With a checkpoint that follows melodies."""
    if not (music_models / "musicgen-melody").exists():
        musicgen_checkpoint.save_checkpoint(music_models / "musicgen-melody", melody=True, rate=32_000)
    return music_models


@pytest.fixture
def song(tmp_path: Path) -> bytes:
    """Six seconds of music, as a WAV file's bytes."""
    return media.write(tmp_path / "song.wav", media.music(6.0)).read_bytes()


@pytest.fixture
def site(song: bytes) -> Iterator[Site]:
    """A web server behind TLS."""
    site = Site(song, tls=True)
    yield site
    site.close()


def worker(fleet: Fleet, models: Path, **env: str) -> Any:
    return fleet.start(**ALLOWED, SOUNDFLEET_ONLY=SERVICES, SOUNDFLEET_MODEL_DIR=str(models), **env)


def request_of(backend: str, duration_sec: int = 8, **fields: Any) -> GenerationRequest:
    return GenerationRequest(prompt="warm lofi", duration_sec=duration_sec, backend=backend, seed=1, **fields)


def sha256_of(job: Job) -> str:
    """Of the track."""
    assert job.result is not None
    assert job.result.track is not None
    return job.result.track.file.sha256


def test_every_kind_of_audio_for_a_generation_is_fetched_from_the_web(fleet: Fleet, models: Path, site: Site) -> None:
    """To go on from, to cover, whose sound and whose melody to follow: by https, in the fetch lane, once each."""
    worker(fleet, models)
    requests = {
        "continued": request_of("musicgen", source=f"{site.url}/continued.wav"),
        "covered": request_of("ace_step", source=f"{site.url}/covered.wav", song=COVER),
        "sound": request_of("ace_step", reference=f"{site.url}/sound.wav"),
        "melody": request_of("musicgen_melody", reference=f"{site.url}/melody.wav"),
        "both": request_of("musicgen_melody", source=f"{site.url}/a.wav", reference=f"{site.url}/b.wav"),
        "none": request_of("musicgen_melody"),
    }
    ids = {name: fleet.submit(request) for name, request in requests.items()}
    jobs = {name: fleet.completed(job_id) for name, job_id in ids.items()}
    for name, job in jobs.items():
        if name != "none":
            assert fleet.told(job.id) == FETCHED_FIRST, name
    assert sorted(site.asked) == [f"/{name}.wav" for name in ("a", "b", "continued", "covered", "melody", "sound")]
    assert len({sha256_of(job) for job in jobs.values()}) == len(jobs), "each was heard"
    covered = jobs["covered"].result
    assert covered is not None
    assert covered.track is not None
    assert covered.track.duration_sec == pytest.approx(6.0, abs=0.1)
    assert any("6" in warning for warning in covered.warnings), "it is as long as its source"


def test_one_file_by_the_web_a_bucket_and_an_upload_makes_one_track(
    fleet: Fleet, models: Path, site: Site, song: bytes, tmp_path: Path
) -> None:
    """Its content counts, and not where it came from: the second and the third are answered from the first's work."""
    worker(fleet, models)
    storage = fleet.stack.storage
    storage.put_bytes("songs/one.wav", song, "audio/wav")
    key = f"{fleet.stack.namespace}/songs/one.wav"
    sources = (f"{site.url}/song.wav", S3Source(bucket=storage.bucket, key=key), str(tmp_path / "song.wav"))
    first, *others = [fleet.completed(fleet.submit(request_of("musicgen", source=source))) for source in sources]
    assert [(sha256_of(job), job.cached) for job in others] == [(sha256_of(first), True)] * 2
    missing = S3Source(bucket=storage.bucket, key=f"{key}.not")
    failed = fleet.ended(fleet.submit(request_of("musicgen", source=missing)))
    assert failed.error is not None
    assert failed.error.code is ErrorCode.SOURCE_NOT_FOUND


def test_what_the_web_does_not_have_fails_before_a_model_is_asked(fleet: Fleet, models: Path, site: Site) -> None:
    """At the first attempt, for good, and what was chained to it fails with it."""
    worker(fleet, models)
    for path, code in {"words": ErrorCode.UNSUPPORTED_FORMAT, "missing": ErrorCode.SOURCE_NOT_FOUND}.items():
        parent = fleet.submit(request_of("ace_step", source=f"{site.url}/{path}.wav", song=COVER))
        child = fleet.submit(SeparationRequest(source=f"job:{parent}", options=MINI))
        job, after = fleet.ended(parent), fleet.ended(child)
        assert (job.status, job.attempt) == (JobStatus.failed, 1)
        assert job.error is not None
        assert job.error.code is code
        assert after.error is not None
        assert after.error.code is ErrorCode.SOURCE_JOB_FAILED
        assert after.error.message == f"job {parent} has failed: {job.error}"


def test_a_chain_of_three_goes_through(fleet: Fleet, models: Path) -> None:
    """A track, its stems, and music that follows one of the stems: submitted at once, the last one first."""
    first = request_of("musicgen", 5)
    second = SeparationRequest(source=f"job:{first.id}", options=MINI)
    third = request_of("musicgen_melody", 5, reference=f"job:{second.id}#vocals")
    also = request_of("ace_step", 5, source=f"job:{second.id}#bass", song=COVER)
    for request in (third, also, second, first):
        fleet.submit(request)
    worker(fleet, models)
    jobs = [fleet.completed(request.id) for request in (first, second, third, also)]
    ended = [job.finished_at for job in jobs]
    assert None not in ended
    assert ended[0] < ended[1] < min(ended[2:])  # type: ignore[operator, type-var]
    assert fleet.told(third.id).count(EventType.retry) <= 2, "it waits for its source without asking again and again"


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_the_end_of_the_first_is_the_end_of_all_that_hangs_on_it(fleet: Fleet, models: Path, end: str) -> None:
    """Down three links and to both children, with the reason of the first, once; a neighbour is not touched."""
    wish = "steps=3 at=1 raise" if end == "fail" else "steps=10000 step_sec=0.05"
    first = fleet.slow(wish)
    children = [fleet.submit(SeparationRequest(source=f"job:{first}", options=MINI)) for _ in range(2)]
    last = fleet.submit(request_of("musicgen_melody", reference=f"job:{children[0]}#vocals"))
    neighbour = fleet.slow("steps=1")
    worker(fleet, models)
    if end == "cancel":
        fleet.running(first)
        wait_until(lambda: EventType.retry in fleet.told(last), "the last to wait for its source")
        fleet.producer.cancel(first)
    job = fleet.ended(first)
    reason = f"job {first} was cancelled." if end == "cancel" else f"job {first} has failed: {job.error}"
    for child in children:
        error = fleet.ended(child).error
        assert error is not None
        assert (error.code, error.message, error.retryable) == (ErrorCode.SOURCE_JOB_FAILED, reason, False)
    error = fleet.ended(last).error
    assert error is not None
    assert (error.code, error.message) == (ErrorCode.SOURCE_JOB_FAILED, f"job {children[0]} has failed: {reason}")
    assert str(error).count("Submit that job again first.") == 1
    assert fleet.producer.dead_letter(last).reason == "permanent"
    assert fleet.completed(neighbour).attempt == 1
