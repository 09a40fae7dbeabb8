"""Publishing a job: a message goes in, a job is there, and it is there once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.stacks import Stack

from soundfleet_producer import GenerationRequest, Producer, SeparationRequest, Submitted
from soundfleet_schemas import (
    ErrorCode,
    InvalidRequest,
    JobStatus,
    QueueError,
    SoundfleetError,
    StemSeparationOptions,
    UploadSource,
)


def test_a_submitted_job_waits_in_its_lane(producer: Producer) -> None:
    """Submit answers with the job's id; its status tells the rest."""
    submitted = producer.submit(GenerationRequest(prompt="warm lofi with rain", duration_sec=30))
    job = producer.status(submitted.id)
    assert (submitted.outcome, job.status) == ("created", JobStatus.pending)
    assert job.model == "sketch"  # the fleet's default backend


def test_submitting_the_same_request_again_is_the_same_job(producer: Producer) -> None:
    """A lost reply is no problem: say it again."""
    request = GenerationRequest(prompt="warm lofi", duration_sec=30)
    assert producer.submit(request).outcome == "created"
    assert producer.submit(request).outcome == "exists"
    assert len(producer.jobs()) == 1


def test_an_id_belongs_to_one_request(producer: Producer) -> None:
    """Another request under the same id is refused, not mixed up."""
    request = GenerationRequest(prompt="warm lofi", duration_sec=30)
    producer.submit(request)
    with pytest.raises(QueueError) as caught:
        producer.submit(GenerationRequest(id=request.id, prompt="cold techno", duration_sec=30))
    assert caught.value.code is ErrorCode.JOB_CONFLICT


def test_what_is_wrong_with_a_request_is_said_before_anything_is_queued(producer: Producer) -> None:
    """The error names the field, and what it takes."""
    with pytest.raises(InvalidRequest, match="sketch makes 5 to 240 seconds"):
        producer.submit(GenerationRequest(prompt="warm lofi", duration_sec=500))
    assert producer.jobs() == []


def test_a_local_file_is_uploaded_under_its_content_hash(producer: Producer, stack: Stack, tmp_path: Path) -> None:
    """The worker needs no path of ours: the message names the object."""
    song = tmp_path / "Song.WAV"
    song.write_bytes(b"the sound of music")
    request = SeparationRequest(source=str(song), options=StemSeparationOptions(model="htdemucs_mini"))
    source = producer.status(producer.submit(request).id).request.source  # type: ignore[union-attr]
    assert isinstance(source, UploadSource)
    assert source.key == f"uploads/{source.sha256}.wav"
    assert stack.storage.get_bytes(source.key) == b"the sound of music"


def test_a_file_is_uploaded_once_and_named_by_many_jobs(producer: Producer) -> None:
    """A path, bytes or an open file; what comes back is a source like any other."""
    song = producer.upload(b"the sound of music", filename="song.wav")
    jobs = [
        SeparationRequest(source=song, options=StemSeparationOptions(model="htdemucs_mini", seed=n, shifts=1))
        for n in range(3)
    ]
    for answer in producer.submit_many(jobs):
        assert isinstance(answer, Submitted)
        assert producer.status(answer.id).request.source == song  # type: ignore[union-attr]


def test_many_jobs_go_in_one_flight_and_each_answers_for_itself(producer: Producer) -> None:
    """An invalid one stands as an error in its place and stops no other."""
    requests = [GenerationRequest(prompt=prompt, duration_sec=30) for prompt in ("rain", "", "snow")]
    first, second, third = producer.submit_many(requests)
    assert isinstance(second, SoundfleetError)
    assert second.code is ErrorCode.INVALID_PROMPT
    assert [producer.status(answer.id).status for answer in (first, third)] == ["pending", "pending"]  # type: ignore[union-attr]
