"""Uploads through both clients: stored once under their content, however they were given and however often."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.stacks import Stack

from soundfleet_producer import AsyncProducer, Producer, SeparationRequest, Submitted
from soundfleet_schemas import ErrorCode, SoundfleetError, StemSeparationOptions, UploadSource

MINI = StemSeparationOptions(model="htdemucs_mini")
SONG, DRUMS = b"a whole song", b"its drums"


def separation(source: Any, **fields: Any) -> SeparationRequest:
    return SeparationRequest(source=source, options=MINI, **fields)


def sent(producer: Producer, request: SeparationRequest) -> SeparationRequest:
    """Submit a request and return it as it was queued."""
    queued = producer.status(producer.submit(request).id).request
    assert isinstance(queued, SeparationRequest)
    return queued


def stored(stack: Stack) -> dict[str, bytes]:
    """The objects of the test's corner by key."""
    root = stack.local.directory / "s3" / "objects" / stack.storage.bucket / stack.namespace
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "file"])
def test_a_request_may_bring_its_audio_in_any_form(producer: Producer, stack: Stack, tmp_path: Path, kind: str) -> None:
    """The queued request names the object; said again, it is the same job."""
    path = tmp_path / "song.wav"
    path.write_bytes(SONG)
    given: dict[str, Any] = {"path": path, "text": str(path), "bytes": SONG, "file": io.BytesIO(SONG)}
    request = separation(given[kind])
    source = sent(producer, request).source
    assert isinstance(source, UploadSource)
    assert stored(stack) == {source.key: SONG}
    assert producer.submit(request).outcome == "exists"


def test_every_source_of_a_request_is_uploaded(producer: Producer, stack: Stack, tmp_path: Path) -> None:
    """The song and the true stems that it is measured by; an address among them stays what it is."""
    path = tmp_path / "drums.wav"
    path.write_bytes(DRUMS)
    references: Any = {"drums": path, "bass": "s3://music/bass.wav", "vocals": b"its voice"}
    queued = sent(producer, separation(SONG, references=references))
    assert sorted(stored(stack).values()) == sorted([SONG, DRUMS, b"its voice"])
    assert list(queued.references) == ["drums", "bass", "vocals"]
    assert [type(source).__name__ for source in queued.references.values()] == [
        "UploadSource", "S3Source", "UploadSource",
    ]  # fmt: skip
    assert isinstance(queued.references["drums"], UploadSource)
    assert stored(stack)[queued.references["drums"].key] == DRUMS


def test_nothing_is_queued_when_one_of_several_sources_is_missing(producer: Producer, tmp_path: Path) -> None:
    """What was uploaded before it is an object that no job names; its retention removes it."""
    references: Any = {"drums": tmp_path / "missing.wav"}
    with pytest.raises(SoundfleetError) as caught:
        producer.submit(separation(SONG, references=references))
    assert caught.value.code is ErrorCode.SOURCE_NOT_FOUND
    assert producer.jobs() == []


def test_what_is_uploaded_once_serves_many_jobs(producer: Producer, stack: Stack) -> None:
    """The second job sends no bytes, in whatever form the same content comes."""
    source = producer.upload(SONG, filename="song.wav")
    (key,) = stored(stack)
    written = time.time_ns()
    assert producer.upload(io.BytesIO(SONG), filename="copy.wav").key == key
    answers = producer.submit_many([separation(source), separation(SONG), separation(msgspec.structs.replace(source))])
    assert all(isinstance(answer, Submitted) for answer in answers)
    path = stack.local.directory / "s3" / "objects" / stack.storage.bucket / stack.namespace / key
    assert path.stat().st_mtime_ns < written


def test_the_limit_of_the_fleet_holds_for_every_form(stack: Stack) -> None:
    """Before anything is stored."""
    limits = msgspec.structs.replace(stack.settings.limits, max_file_bytes=len(SONG) - 1)
    with Producer(msgspec.structs.replace(stack.settings, limits=limits), stack.storage) as producer:
        answers = producer.submit_many([separation(SONG), separation(io.BytesIO(SONG)), separation(DRUMS)])
        assert [getattr(answer, "code", None) for answer in answers] == [ErrorCode.FILE_TOO_LARGE] * 2 + [None]
    assert list(stored(stack).values()) == [DRUMS]


async def test_the_awaited_client_reads_and_stores_beside_the_loop(stack: Stack) -> None:
    """A stream that is slow to read does not hold up anything else."""
    released = threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert released.wait(30)
            return super().read(size)

    async with AsyncProducer(stack.settings, stack.storage) as producer:
        upload = asyncio.create_task(producer.upload(Slow(SONG)))
        submitted = await producer.submit(separation(DRUMS))  # while the upload waits for its first byte
        assert not upload.done()
        released.set()
        source = await upload
        assert (await producer.submit(separation(source))).id != submitted.id
    assert sorted(stored(stack).values()) == sorted([SONG, DRUMS])


def test_an_upload_in_parts_is_stored_whole(producer: Producer, stack: Stack) -> None:
    """More than one part, from a stream that was spooled to disk."""
    data = bytes(range(256)) * (17 * 4096) + b"tail"
    source = producer.upload(io.BytesIO(data))
    assert stored(stack)[source.key] == data
