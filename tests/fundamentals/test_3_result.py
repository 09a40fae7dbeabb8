"""Getting the result: wait for it, download it, find it again."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path

import pytest
from tests.hands import Hands

from soundfleet_producer import GenerationRequest, Producer
from soundfleet_producer.drafts import check, finish
from soundfleet_schemas import ErrorCode, JobStatus, QueueError, SourceError, StorageError


def _submit(producer: Producer) -> str:
    return producer.submit(GenerationRequest(prompt="warm lofi", duration_sec=30)).id


def test_a_result_is_waited_for(producer: Producer, hands: Hands) -> None:
    """The call returns when the job is settled."""
    job_id = _submit(producer)
    token = hands.claim().token
    settle = threading.Timer(0.2, hands.complete, (token, {"drums": b"boom"}))
    settle.start()
    assert producer.result(job_id, timeout=30).stems["drums"].size == 4
    settle.join()


def test_addresses_are_minted_when_the_result_is_read(producer: Producer, hands: Hands) -> None:
    """The record stores keys; an address from the result opens without credentials."""
    job_id = _submit(producer)
    hands.complete(hands.claim().token, {"drums": b"boom"})
    stored = producer.status(job_id).result
    assert stored is not None
    assert stored.stems["drums"].cdn_url is None
    url = producer.result(job_id).stems["drums"].cdn_url
    assert url is not None
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"boom"


def test_a_download_puts_every_file_and_the_manifest_into_a_directory(
    producer: Producer, hands: Hands, tmp_path: Path
) -> None:
    """Each path appears when its file is whole, and nothing else does."""
    job_id = _submit(producer)
    hands.complete(hands.claim().token, {"drums": b"boom", "bass": b"dum"})
    paths = producer.download(job_id, tmp_path / "out")
    assert [path.name for path in paths] == ["drums.wav", "bass.wav", "manifest.json"]
    assert paths[0].read_bytes() == b"boom"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)


def test_a_file_that_was_tampered_with_is_not_delivered(producer: Producer, hands: Hands, tmp_path: Path) -> None:
    """Size and SHA-256 are checked before a path appears."""
    job_id = _submit(producer)
    result = hands.complete(hands.claim().token, {"drums": b"boom"})
    hands.stack.storage.put_bytes(result.stems["drums"].path, b"bomb", "audio/wav")
    with pytest.raises(StorageError, match="not what the job delivered"):
        producer.download(job_id, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_result_of_a_failed_job_is_its_error(producer: Producer, hands: Hands) -> None:
    """The exception is the one that the worker met."""
    job_id = _submit(producer)
    hands.fail(hands.claim().token, ErrorCode.AUDIO_CORRUPT)
    with pytest.raises(SourceError) as caught:
        producer.result(job_id)
    assert caught.value.code is ErrorCode.AUDIO_CORRUPT


def test_waiting_ends_with_the_timeout_and_the_job_goes_on(producer: Producer) -> None:
    """RESULT_TIMEOUT is about the wait, not about the job."""
    job_id = _submit(producer)
    with pytest.raises(QueueError) as caught:
        producer.result(job_id, timeout=0.2)
    assert caught.value.code is ErrorCode.RESULT_TIMEOUT
    assert producer.status(job_id).status is JobStatus.pending


def test_the_same_request_is_answered_from_finished_work(producer: Producer, hands: Hands) -> None:
    """Equal fingerprints mean equal output, so the second job is completed at once."""
    first = GenerationRequest(prompt="warm lofi", duration_sec=30, seed=1)
    producer.submit(first)
    fingerprint = finish(check(first, producer.settings, {}), {}).fingerprint
    hands.complete(hands.claim().token, {"drums": b"boom"}, fingerprint)
    second = producer.submit(GenerationRequest(prompt="warm lofi", duration_sec=30, seed=1))
    assert (second.outcome, second.status) == ("cached", JobStatus.completed)
    assert producer.result(second.id).cached
    assert producer.status(second.id).cached
    assert [event.type for event in producer.watch(second.id)] == ["submitted", "completed"]
