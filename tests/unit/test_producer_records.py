"""Reading what the verbs wrote."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from soundfleet_producer.queue.records import (
    FIRST_EVENT,
    first_event,
    last_event,
    read_events,
    read_job,
    read_letter,
    read_workers,
)
from soundfleet_schemas import (
    ErrorCode,
    EventType,
    GenerationRequest,
    InputType,
    JobResult,
    JobStatus,
    QueueError,
    S3Source,
    SeparationRequest,
    SoundfleetError,
    StemSeparationOptions,
    encode,
    error,
)

ID = "11111111-1111-4111-8111-111111111111"
GENERATION = encode(GenerationRequest(id=ID, prompt="lofi", duration_sec=30, backend="sketch", seed=1))
SEPARATION = encode(
    SeparationRequest(id=ID, source=S3Source(bucket="b", key="k"), options=StemSeparationOptions(model="htdemucs"))
)
RESULT = encode(
    JobResult(
        job_id="other", attempt=1, output_dir="jobs/other/1/", processing_time=1, model_used="sketch", file_size=1
    )
)
FAILURE = encode(error(ErrorCode.AUDIO_CORRUPT, "frame 3 is broken").info)


def test_a_fresh_job_has_what_its_submission_knew() -> None:
    """Times that are not there yet are None; the update time is the creation's."""
    job = read_job(
        ID, {b"request": GENERATION, b"state": b"pending", b"created_at": b"1700000000123", b"estimated": b"3"}
    )
    assert job.created_at == datetime(2023, 11, 14, 22, 13, 20, 123000, UTC)
    assert job.updated_at == job.created_at
    assert (job.status, job.estimated_duration, job.started_at, job.result) == (JobStatus.pending, 3, None, None)


def test_a_separation_shows_its_input_and_options() -> None:
    """The data model's input_type and input_source come from the source."""
    job = read_job(ID, {b"request": SEPARATION, b"state": b"pending", b"created_at": b"0"})
    assert (job.input_type, job.input_source, job.model) == (InputType.s3, "s3://b/k", "htdemucs")
    assert job.options is not None


def test_a_finished_job_says_how_long_it_took() -> None:
    """From the first claim to the end, in whole seconds, rounded up."""
    fields = {
        b"request": GENERATION,
        b"state": b"completed",
        b"created_at": b"1000",
        b"started_at": b"2000",
        b"finished_at": b"4001",
        b"result": RESULT,
        b"attempt": b"2",
        b"crashes": b"1",
        b"worker": b"w",
        b"progress": b"100",
        b"stage": b"deliver",
    }
    job = read_job(ID, fields)
    assert (job.actual_duration, job.attempt, job.crashes, job.worker, job.progress) == (3, 2, 1, "w", 100)
    assert job.result is not None
    assert not job.result.cached


def test_an_answer_from_the_cache_says_so_in_both_places() -> None:
    """The result was stored by another job, which did not know."""
    fields = {b"request": GENERATION, b"state": b"completed", b"created_at": b"0", b"result": RESULT, b"cached": b"1"}
    job = read_job(ID, fields)
    assert job.cached
    assert job.result is not None
    assert (job.result.job_id, job.result.cached) == (ID, True)


def test_fields_of_a_newer_version_are_passed_over() -> None:
    """A reader of today reads a record of tomorrow."""
    job = read_job(ID, {b"request": GENERATION, b"state": b"pending", b"created_at": b"0", b"new": b"x"})
    assert job.id == ID


def test_no_record_is_no_job() -> None:
    """An empty hash is what Redis says of a key that is not there."""
    with pytest.raises(QueueError) as caught:
        read_job(ID, {})
    assert caught.value.code is ErrorCode.JOB_NOT_FOUND


def test_a_request_that_cannot_be_read_is_a_typed_error() -> None:
    """Somebody published what only a newer client understands."""
    with pytest.raises(SoundfleetError) as caught:
        read_job(ID, {b"request": b'{"kind":"generate"}', b"state": b"failed", b"created_at": b"0"})
    assert caught.value.code is ErrorCode.INVALID_MESSAGE


def test_events_carry_the_id_to_resume_after() -> None:
    """The stream's id, which the document does not hold; unknown fields are passed over."""
    document = b'{"job_id":"j","type":"claimed","at_ms":5,"attempt":1,"worker":"w","new":1}'
    (event,) = read_events([(b"5-0", {b"event": document})])
    assert (event.id, event.type, event.worker) == ("5-0", EventType.claimed, "w")


def test_the_first_event_is_older_than_every_stored_one() -> None:
    """Resuming after it misses nothing, though it is in no stream."""
    event = first_event(ID, 1000)
    assert (event.id, event.at_ms, event.terminal) == (FIRST_EVENT, 1000, False)


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
def test_a_record_can_tell_the_end_of_its_job(state: str) -> None:
    """For a job whose events are gone; a completed one keeps no error of an earlier attempt."""
    event = last_event(ID, {b"state": state.encode(), b"finished_at": b"9", b"error": FAILURE, b"attempt": b"2"})
    assert (event.type, event.at_ms, event.attempt, event.terminal) == (state, 9, 2, True)
    assert (event.error is None) == (state == "completed")


def test_a_running_job_has_no_end_to_tell() -> None:
    """Asking is an error, not a guess."""
    with pytest.raises(QueueError):
        last_event(ID, {b"state": b"processing"})


def test_a_letter_about_an_entry_that_names_no_job_is_read_too() -> None:
    """The malformed entry itself is the detail, whatever bytes it holds."""
    fields = {
        b"job": b"",
        b"reason": b"malformed",
        b"error": FAILURE,
        b"attempts": b"0",
        b"crashes": b"0",
        b"at_ms": b"7",
        b"detail": b"\xff",
    }
    letter = read_letter((b"7-1", fields))
    assert (letter.id, letter.job_id, letter.reason, letter.at_ms) == ("7-1", "", "malformed", 7)


@pytest.mark.parametrize(("field", "value"), [(b"state", b"dreaming"), (b"result", b'{"files":1}')])
def test_a_record_that_a_newer_version_wrote_is_a_typed_error(field: bytes, value: bytes) -> None:
    """The message names the job and says to upgrade."""
    fields = {b"request": GENERATION, b"state": b"pending", b"created_at": b"0", field: value}
    with pytest.raises(SoundfleetError, match="Upgrade this client") as caught:
        read_job(ID, fields)
    assert caught.value.code is ErrorCode.INVALID_MESSAGE


def test_a_stage_of_a_newer_version_is_none() -> None:
    """Neither that the job goes on nor how it ended depends on it."""
    fields = {b"request": GENERATION, b"state": b"processing", b"created_at": b"0", b"stage": b"mixing"}
    assert read_job(ID, fields).stage is None


def test_an_error_of_a_newer_version_is_shown_as_it_is() -> None:
    """Its code is unknown here; nothing of it is lost."""
    document = b'{"code":"MOON_IN_THE_WAY","message":"No sun.","action":"Wait."}'
    job = read_job(ID, {b"request": GENERATION, b"state": b"failed", b"created_at": b"0", b"error": document})
    assert job.error is not None
    assert job.error.code is ErrorCode.INTERNAL_ERROR
    assert "MOON_IN_THE_WAY" in job.error.message


def test_an_event_of_an_unknown_kind_is_left_out() -> None:
    """A watcher of today sees the rest of a stream of tomorrow."""
    known = b'{"job_id":"j","type":"claimed","at_ms":5}'
    events = read_events(
        [(b"5-0", {b"event": b'{"job_id":"j","type":"paused","at_ms":5}'}), (b"6-0", {b"event": known})]
    )
    assert [event.id for event in events] == ["6-0"]


def test_workers_that_cannot_be_read_are_left_out() -> None:
    """A key that has expired is None; a document of another shape is not ours to show."""
    assert read_workers([None, b'{"id":1}', b"no json"]) == []
