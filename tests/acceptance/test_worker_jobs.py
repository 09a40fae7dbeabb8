"""A worker takes jobs end to end, and what it refuses it refuses once, with a reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from tests import media
from tests.fleet import Fleet

from soundfleet_schemas import (
    CATALOG,
    ErrorCode,
    EventType,
    GenerationRequest,
    JobRequest,
    JobResult,
    JobSource,
    JobStatus,
    Kind,
    Lane,
    OutputFormat,
    Priority,
    S3Source,
    SeparationRequest,
    StemSeparationOptions,
    encode,
    new_id,
)

SEPARATE = {"SOUNDFLEET_ONLY": "separate.htdemucs_mini,generate.sketch"}
MINI = StemSeparationOptions(model="htdemucs_mini", shifts=0)


def sketch(**fields: object) -> GenerationRequest:
    return msgspec.convert(
        {"prompt": "warm lofi", "duration_sec": 5, "backend": "sketch", "seed": 7} | fields, GenerationRequest
    )


def test_a_sketch_is_generated_stored_and_described(fleet: Fleet, tmp_path: Path) -> None:
    """The result says what lies in storage, and nothing else lies there."""
    fleet.start()
    request = sketch(output_format="flac")
    job = fleet.completed(fleet.submit(request))
    result = fleet.producer.result(job.id)
    track = result.track
    assert track is not None
    assert (track.prompt, track.seed, track.backend, track.duration_sec) == ("warm lofi", 7, "sketch", 5.0)
    assert track.id == result.fingerprint
    prefix = f"jobs/{job.id}/1/"
    assert (result.attempt, result.output_dir) == (1, prefix)
    names = ("manifest.json", "track.flac", "track.peaks.json")
    assert sorted(fleet.objects()) == [prefix + name for name in names]
    manifest = msgspec.json.decode(fleet.stack.storage.get_bytes(f"{prefix}manifest.json"), type=JobResult)
    assert manifest.track is not None
    assert manifest.track.file.sha256 == track.file.sha256
    fleet.stack.storage.download(track.file.path, tmp_path / "track.flac")
    data = (tmp_path / "track.flac").read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (track.file.size, track.file.sha256)
    metrics = result.processing_metrics
    assert metrics is not None
    assert metrics.output_file_sizes == (len(data),)
    assert set(metrics.stage_sec) == {"prepare", "load", "infer", "deliver"}
    assert metrics.memory_usage > 0
    assert fleet.told(job.id) == [EventType.claimed, EventType.completed]
    assert fleet.pending_entries(request) == 0


def test_the_same_work_is_done_once(fleet: Fleet) -> None:
    """Two equal requests that wait together: the second is answered from the first, and says so."""
    request = sketch()
    first, second = fleet.submit(request), fleet.submit(msgspec.structs.replace(request, id=new_id()))
    fleet.start(SOUNDFLEET_SLOTS="1")
    assert not fleet.completed(first).result.cached
    job = fleet.completed(second)
    assert job.cached
    answer = job.result
    assert (answer.cached, answer.job_id, answer.output_dir) == (True, second, f"jobs/{first}/1/")


def test_a_track_of_the_fleet_is_separated_and_so_is_a_stem_of_it(fleet: Fleet) -> None:
    """A track of the fleet, given as job:ID, comes back as the four stems of a real model."""
    worker = fleet.start(**SEPARATE)
    song = fleet.submit(sketch())
    fleet.completed(song)
    job = fleet.completed(fleet.submit(SeparationRequest(source=f"job:{song}", options=MINI)))
    assert set(job.result.stems) == set(CATALOG["htdemucs_mini"].stems)
    assert all(stem.duration == pytest.approx(5.0, abs=0.01) for stem in job.result.stems.values())
    stages = {event.progress.stage for event in fleet.events(job.id) if event.progress is not None}
    assert "infer" in stages
    vocals = SeparationRequest(source=JobSource(job_id=job.id, stem="vocals"), options=MINI)
    assert fleet.completed(fleet.submit(vocals)).result.stems
    assert job.result.processing_metrics.input_file_size > 0
    assert "libtorch" in Path(f"/proc/{worker.engine_pid}/maps").read_text()
    assert "libtorch" not in Path(f"/proc/{worker.pid}/maps").read_text(), "the supervisor has no framework in it"


def test_an_upload_is_separated_and_the_same_file_is_not_separated_twice(fleet: Fleet, tmp_path: Path) -> None:
    """The same bytes under another name have the same fingerprint."""
    fleet.start(**SEPARATE)
    path = media.write(tmp_path / "song.mp3", media.music(4.0), kind="mp3")
    first = fleet.completed(fleet.submit(SeparationRequest(source=str(path), options=MINI)))
    assert not first.result.cached
    copy = tmp_path / "copy.mp3"
    copy.write_bytes(path.read_bytes())
    again = fleet.completed(fleet.submit(SeparationRequest(source=str(copy), options=MINI)))
    assert again.result.cached


def test_stems_of_a_hot_file_add_up_by_default(fleet: Fleet, tmp_path: Path) -> None:
    """A float wav at four times full scale: integers would clip, so all stems are float; flac clips and says so."""
    fleet.start(**SEPARATE)
    mix = 4.0 * media.noise(2.0, gain=0.3)
    path = media.write(tmp_path / "hot.wav", mix, kind="wavfloat")
    result = fleet.completed(fleet.submit(SeparationRequest(source=str(path), options=MINI))).result
    assert result.parameters["bit_depth"] == "float"
    assert "beyond full scale" in " ".join(result.warnings)
    total = np.zeros_like(mix)
    for name, stem in result.stems.items():
        fleet.stack.storage.download(stem.path, tmp_path / f"{name}.wav")
        with av.open(str(tmp_path / f"{name}.wav")) as container:
            assert container.streams.audio[0].codec_context.name == "pcm_f32le"
            total += np.concatenate([frame.to_ndarray().reshape(-1, 2).T for frame in container.decode()], axis=1)
    difference = 10 * np.log10(np.square(mix).sum() / np.square(mix - total).sum())
    assert difference > 80.0
    flac = msgspec.structs.replace(MINI, output_format=OutputFormat.flac)
    clipped = fleet.completed(fleet.submit(SeparationRequest(source=str(path), options=flac))).result
    assert "bit_depth" not in clipped.parameters
    assert "were clipped" in " ".join(clipped.warnings)


def _refused(fleet: Fleet, request: JobRequest, code: ErrorCode) -> None:
    job = fleet.ended(fleet.submit(request))
    assert (job.status, job.error.code, job.attempt) == (JobStatus.failed, code, 1)
    letter = fleet.producer.dead_letter(job.id)
    assert (letter.reason, letter.error.code) == ("permanent", code)
    assert fleet.told(job.id) == [EventType.claimed, EventType.failed]


def test_bad_sources_fail_once_with_their_own_error(fleet: Fleet, tmp_path: Path) -> None:
    """A text file called mp3, a truncated file, a missing object: typed errors, one attempt, a dead letter each."""
    fleet.start(**SEPARATE)
    text = tmp_path / "song.mp3"
    text.write_text("this is not music, whatever its name says\n" * 100)
    _refused(fleet, SeparationRequest(source=str(text), options=MINI), ErrorCode.UNSUPPORTED_FORMAT)
    cut = media.truncate(media.write(tmp_path / "cut.m4a", media.music(4.0), kind="m4a"), 0.5)
    _refused(fleet, SeparationRequest(source=str(cut), options=MINI), ErrorCode.AUDIO_CORRUPT)
    missing = S3Source(bucket=fleet.stack.storage.bucket, key="nothing/here.wav")
    _refused(fleet, SeparationRequest(source=missing, options=MINI), ErrorCode.SOURCE_NOT_FOUND)
    unknown = JobSource(job_id=new_id())
    _refused(fleet, SeparationRequest(source=unknown, options=MINI), ErrorCode.SOURCE_NOT_FOUND)
    assert fleet.completed(fleet.submit(sketch())).result.track is not None


def test_a_source_job_that_failed_is_named(fleet: Fleet) -> None:
    """The error carries the other job's reason."""
    fleet.start(SOUNDFLEET_ONLY="generate.slow,separate.htdemucs_mini")
    failed = fleet.slow("steps=5 at=1 raise")
    _retries_are_over(fleet, failed)
    job = fleet.ended(fleet.submit(SeparationRequest(source=f"job:{failed}", options=MINI)))
    assert job.error.code is ErrorCode.SOURCE_JOB_FAILED
    assert ErrorCode.MODEL_INFERENCE_FAILED in job.error.message


def _retries_are_over(fleet: Fleet, job_id: str) -> None:
    job = fleet.ended(job_id)
    assert (job.status, job.attempt) == (JobStatus.failed, 3)
    assert fleet.producer.dead_letter(job_id).reason == "attempts"


def test_a_source_job_that_is_unfinished_is_waited_for(fleet: Fleet) -> None:
    """It goes on when that one ends; waiting is no failure, so a single attempt is enough."""
    fleet.start(SOUNDFLEET_ONLY="generate.slow,separate.htdemucs_mini", SOUNDFLEET_LIMITS_MAX_ATTEMPTS="1")
    song = fleet.slow("steps=30 step_sec=0.1")
    job = fleet.submit(SeparationRequest(source=f"job:{song}", options=MINI))
    assert fleet.completed(job).attempt == 2
    assert EventType.retry in fleet.told(job)


def test_malformed_entries_and_requests_go_to_the_dead_letters_and_the_worker_goes_on(fleet: Fleet) -> None:
    """Whatever lies in the stream, the next good job is served."""
    worker = fleet.start()
    redis, keys = fleet.stack.redis, fleet.stack.keys
    lane = keys.lane(Lane(Kind.generate, "sketch", Priority.Normal))
    good = sketch()
    ids = [new_id() for _ in range(4)]
    bad = (
        b"{",
        encode(msgspec.structs.replace(good, id=ids[1]))[:-1] + b',"colour":"blue"}',
        encode(good),
        encode(msgspec.structs.replace(good, id=ids[3], duration_sec=1)),
    )
    fields = {"lane": "generate.sketch:normal", "state": "pending", "created_at": 1_700_000_000_000}
    for number, (job_id, raw) in enumerate(zip(ids, bad, strict=True), start=1):
        redis.hset(keys.job(job_id), mapping={**fields, "request": raw, "entry": f"{number}-1"})
        redis.zadd(keys.jobs(JobStatus.pending), {job_id: 1_700_000_000_000})
        redis.xadd(lane, {"job": job_id}, id=f"{number}-1")
    redis.xadd(lane, {"nonsense": "1"})
    redis.xadd(lane, {"job": "no-such-job"})
    assert fleet.completed(fleet.submit(good)).result.track is not None
    letters = fleet.producer.dead_letters()
    assert {letter.job_id for letter in letters if letter.reason == "permanent"} == set(ids)
    assert sum(letter.reason == "malformed" for letter in letters) == 2
    codes = {letter.error.code for letter in letters}
    assert codes == {ErrorCode.INVALID_MESSAGE, ErrorCode.INVALID_DURATION, ErrorCode.MALFORMED_ENTRY}
    assert worker.stop() == 0
