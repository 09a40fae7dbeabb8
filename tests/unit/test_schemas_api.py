"""The transfer objects of the HTTP face."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from soundfleet_schemas import (
    ErrorCode,
    GenerationRequest,
    Job,
    JobStatus,
    JobStatusResponse,
    Kind,
    Quality,
    SoundfleetError,
    StemifyRequest,
    StemSeparationOptions,
    encode,
    error,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def job(**fields: Any) -> Job:
    """A job that failed."""
    request = GenerationRequest(prompt="rain", duration_sec=30, backend="sketch")
    return Job(
        id=request.id,
        kind=Kind.generate,
        status=JobStatus.failed,
        created_at=NOW,
        updated_at=NOW,
        model="sketch",
        request=request,
        **fields,
    )


@pytest.mark.parametrize(
    ("request_", "accepted"),
    [
        (StemifyRequest(file=b"RIFF"), True),
        (StemifyRequest(youtube_url="https://youtu.be/x"), True),
        (StemifyRequest(), False),
        (StemifyRequest(file=b"RIFF", youtube_url="https://youtu.be/x"), False),
    ],
)
def test_stems_are_asked_of_a_file_or_of_a_video(request_: StemifyRequest, accepted: bool) -> None:
    """Exactly one of the two."""
    if accepted:
        request_.check()
        return
    with pytest.raises(SoundfleetError) as caught:
        request_.check()
    assert caught.value.code is ErrorCode.INVALID_SOURCE


def test_the_wire_is_camel_case_as_the_data_model_writes_it() -> None:
    """Names of the transfer object only: its options are the model's own."""
    raw = b'{"youtubeUrl":"https://youtu.be/x","options":{"quality":"best","output_format":"mp3"}}'
    request = msgspec.json.decode(raw, type=StemifyRequest)
    assert request.options == StemSeparationOptions(quality=Quality.best, output_format="mp3")


def test_a_job_is_shown_with_its_error_as_one_line() -> None:
    """A string, as the data model has it; what is not there is left out."""
    info = error(ErrorCode.AUDIO_CORRUPT, "the file ends early").info
    shown = msgspec.json.decode(encode(JobStatusResponse.of(job(error=info, progress=40))))
    assert shown["error"].startswith("AUDIO_CORRUPT: the file ends early.")
    assert (shown["status"], shown["progress"], shown["createdAt"]) == ("failed", 40, "2026-01-02T00:00:00Z")
    assert "result" not in shown
    assert "error" not in msgspec.json.decode(encode(JobStatusResponse.of(job())))


def test_a_job_prints_all_of_its_fields() -> None:
    """Nulls too: a script can rely on every name."""
    assert set(msgspec.json.decode(encode(job()))) == set(Job.__struct_fields__)
