"""``Producer`` at its edges: paging, foreign backends, failures of the services behind it."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import pytest
from tests.hands import Hands
from tests.stacks import Stack

from soundfleet_producer import GenerationRequest, Producer, SeparationRequest
from soundfleet_producer.connections import connect
from soundfleet_producer.drafts import check, finish
from soundfleet_producer.overlap import perform_while
from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.verbs import Submitted
from soundfleet_schemas import (
    BackendSpec,
    ErrorCode,
    InvalidRequest,
    JobStatus,
    Kind,
    QueueError,
    SettingsError,
    SourceError,
    StemSeparationOptions,
    UploadSource,
    WorkerInfo,
    encode,
    new_id,
)

MINI = StemSeparationOptions(model="htdemucs_mini")


def _request(prompt: str = "warm lofi") -> GenerationRequest:
    return GenerationRequest(prompt=prompt, duration_sec=30)


def test_pages_of_jobs_show_each_job_once(producer: Producer) -> None:
    """Jobs of the same millisecond are not lost between two pages."""
    ids = {answer.id for answer in producer.submit_many([_request() for _ in range(25)])}  # type: ignore[union-attr]
    seen: list[str] = []
    before = None
    while page := producer.jobs(limit=10, before=before):
        seen += [job.id for job in page]
        before = seen[-1]
    assert len(seen) == 25
    assert set(seen) == ids


def test_jobs_are_listed_by_state(producer: Producer, hands: Hands) -> None:
    """Each state has its own index."""
    producer.submit_many([_request(), _request()])
    token = hands.claim().token
    assert [job.id for job in producer.jobs(JobStatus.processing)] == [token.job_id]
    assert len(producer.jobs(JobStatus.pending)) == 1
    assert producer.jobs(JobStatus.completed) == []


def test_a_thousand_jobs_go_in_order_and_are_all_there(producer: Producer) -> None:
    """Answers stand in the order of the requests, across the borders of batches and flights."""
    requests = [_request(f"song {n}") for n in range(2345)]
    answers = producer.submit_many(requests)
    assert [answer.id for answer in answers] == [request.id for request in requests]  # type: ignore[union-attr]
    again = producer.submit_many(requests)
    assert {answer.outcome for answer in again} == {"exists"}  # type: ignore[union-attr]


def test_many_jobs_may_bring_their_files(producer: Producer, tmp_path: Path) -> None:
    """Uploads, mistakes and prompts mixed over several flights, each answered in its place."""
    song = tmp_path / "song.wav"
    song.write_bytes(b"music")
    kinds = [
        _request,
        lambda: SeparationRequest(source=str(song), options=MINI),
        lambda: SeparationRequest(source=str(tmp_path / "missing.wav"), options=MINI),
        lambda: _request(""),
    ]
    requests = [kinds[n % 4]() for n in range(1300)]
    answers = producer.submit_many(requests)
    assert len(answers) == len(requests)
    for n, (request, answer) in enumerate(zip(requests, answers, strict=True)):
        if n % 4 < 2:
            assert answer.id == request.id  # type: ignore[union-attr]
        else:
            expected = ErrorCode.SOURCE_NOT_FOUND if n % 4 == 2 else ErrorCode.INVALID_PROMPT
            assert answer.code is expected  # type: ignore[union-attr]
    assert producer.submit_many([]) == []


def test_a_file_that_cannot_be_read_costs_only_its_own_job(
    producer: Producer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken disk under one file of a batch, names that are no text, homes of nobody: each has its own answer."""
    names = ["good.wav", "bro\udcffken.wav", "bad\udcffname.wav"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode(errors="surrogateescape"))
    upload = producer.storage.upload_source

    def upload_source(path: Path, max_bytes: int | None = None, filename: str | None = None) -> UploadSource:
        if "ken" in path.name:
            raise OSError(errno.EIO, "Input/output error")
        return upload(path, max_bytes, filename)

    monkeypatch.setattr(producer.storage, "upload_source", upload_source)
    sources = [*(tmp_path / name for name in names), Path("~nobody-at-all/song.wav")]
    good, broken, bad, nobody = producer.submit_many(
        [SeparationRequest(source=source, options=MINI) for source in sources]
    )
    assert isinstance(good, Submitted)
    assert isinstance(bad, Submitted)
    assert isinstance(broken, InvalidRequest)
    assert isinstance(nobody, SourceError)


def test_a_cached_result_names_the_job_that_was_asked(producer: Producer, hands: Hands) -> None:
    """Another job did the work; whoever reads the second job's result finds the second job's id in it."""
    request = GenerationRequest(prompt="warm lofi", duration_sec=30, seed=7)
    draft = finish(check(request, producer.settings, {}), {})
    first = producer.submit(request).id
    hands.complete(hands.claim().token, {"drums": b"boom"}, draft.fingerprint)
    second = producer.submit(msgspec.structs.replace(request, id=new_id()))
    assert second.status is JobStatus.completed
    result = producer.result(second.id)
    assert (result.job_id, result.cached, producer.result(first).job_id) == (second.id, True, first)


def test_files_that_cannot_be_written_are_an_error_of_the_request(
    producer: Producer, hands: Hands, tmp_path: Path
) -> None:
    """The directory is a file."""
    job_id = producer.submit(_request()).id
    hands.complete(hands.claim().token, {"drums": b"boom"})
    (tmp_path / "out").touch()
    with pytest.raises(InvalidRequest, match="it is a file"):
        producer.download(job_id, tmp_path / "out")


def test_submitting_goes_on_after_a_restart_of_redis(producer: Producer, stack: Stack) -> None:
    """Pooled connections are broken and the scripts forgotten; the next call mends both."""
    producer.submit_many([_request()])
    stack.local.restart_redis()
    (answer,) = producer.submit_many([_request()])
    assert answer.outcome == "created"  # type: ignore[union-attr]
    stack.local.restart_redis()
    assert producer.submit(_request()).outcome == "created"


def test_an_interrupted_flight_leaves_no_answers_behind(stack: Stack) -> None:
    """Ctrl-C between sending and reading: the next call gets its own answer, not the flight's."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    draft = finish(check(_request(), stack.settings, {}), {})
    with connect(stack.settings.redis_url) as client:
        with pytest.raises(KeyboardInterrupt):
            perform_while(client, [verbs.submit_many(stack.keys, [draft], stack.settings.limits)], interrupted)
        assert client.echo("mine") == b"mine"


def test_a_full_queue_refuses_with_the_position(stack: Stack) -> None:
    """The error says how many wait and how many may."""
    limits = msgspec.structs.replace(stack.settings.limits, max_pending=2)
    with Producer(msgspec.structs.replace(stack.settings, limits=limits), stack.storage) as producer:
        *_, third = producer.submit_many([_request(), _request(), _request()])
        assert isinstance(third, QueueError)
        assert third.code is ErrorCode.QUEUE_FULL
        assert "number 3" in str(third)


def test_a_foreign_backend_is_known_once_a_worker_has_published_it(producer: Producer, stack: Stack) -> None:
    """The catalog is not the limit of what a fleet can serve."""
    request = GenerationRequest(prompt="warm lofi", duration_sec=30, backend="theirs")
    with pytest.raises(InvalidRequest) as caught:
        producer.submit(request)
    assert caught.value.code is ErrorCode.INVALID_BACKEND
    spec = BackendSpec(
        backend="theirs",
        kind=Kind.generate,
        type="theirs",
        name="Theirs",
        model_version="1",
        sample_rate=48_000,
        licence="MIT",
        min_duration_sec=1,
        max_duration_sec=60,
    )
    stack.redis.hset(stack.keys.backends, "theirs", encode(spec))
    assert producer.submit(request).outcome == "created"
    assert spec in producer.backends()


def test_a_catalog_backend_cannot_be_redefined(producer: Producer, stack: Stack) -> None:
    """What is published under a known name changes nothing."""
    known = next(spec for spec in producer.backends() if spec.backend == "sketch")
    stack.redis.hset(stack.keys.backends, "sketch", encode(msgspec.structs.replace(known, max_duration_sec=9999.0)))
    with pytest.raises(InvalidRequest):
        producer.submit(GenerationRequest(prompt="warm lofi", duration_sec=5000, backend="sketch"))
    assert known in producer.backends()


def test_workers_are_those_that_still_say_so(producer: Producer, stack: Stack) -> None:
    """A worker whose key has expired is not listed, even before it is swept from the index."""
    job = producer.status(producer.submit(_request()).id)
    info = WorkerInfo(
        id="alive",
        host="h",
        pid=1,
        device="cpu",
        version="1",
        started_at=job.created_at,
        seen_at=job.created_at,
        capacity=4,
    )
    stack.redis.set(stack.keys.worker("alive"), encode(info), ex=60)
    stack.redis.zadd(stack.keys.workers, {"alive": 1, "gone": 1})
    assert [worker.id for worker in producer.workers()] == ["alive"]


def test_redis_that_is_away_is_one_clear_error(producer: Producer, stack: Stack) -> None:
    """Each call says that Redis did not answer, and works again when it does."""
    job_id = producer.submit(_request()).id
    stack.local.kill_redis()
    for call in (
        lambda: producer.status(job_id),
        lambda: producer.submit(_request()),
        lambda: list(producer.watch(job_id)),
    ):
        with pytest.raises(QueueError) as caught:
            call()
        assert caught.value.code is ErrorCode.QUEUE_UNAVAILABLE
    stack.local.restart_redis()
    assert producer.status(job_id).status is JobStatus.pending


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("missing.wav", None, ErrorCode.SOURCE_NOT_FOUND),
        ("empty.wav", b"", ErrorCode.AUDIO_EMPTY),
        ("large.wav", b"x" * 2000, ErrorCode.FILE_TOO_LARGE),
    ],
)
def test_a_file_that_cannot_be_accepted_is_refused_before_it_is_uploaded(
    stack: Stack, tmp_path: Path, name: str, content: bytes | None, code: ErrorCode
) -> None:
    """Nothing is stored and nothing is queued."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    limits = msgspec.structs.replace(stack.settings.limits, max_file_bytes=1000)
    with Producer(msgspec.structs.replace(stack.settings, limits=limits), stack.storage) as producer:
        with pytest.raises(SourceError) as caught:
            producer.submit(SeparationRequest(source=str(path), options=MINI))
        assert caught.value.code is code
        assert producer.jobs() == []


def test_an_invalid_option_is_found_before_the_upload(producer: Producer, stack: Stack, tmp_path: Path) -> None:
    """The upload is the last thing to happen before the queue."""
    song = tmp_path / "song.wav"
    song.write_bytes(b"never uploaded")
    options = StemSeparationOptions(model="htdemucs_mini", stems=("kazoo",))
    with pytest.raises(InvalidRequest):
        producer.submit(SeparationRequest(source=str(song), options=options))
    assert not list((stack.local.directory / "s3" / "objects").rglob(f"{stack.namespace}/uploads/*"))


def test_an_address_that_is_no_address_is_a_setting_error() -> None:
    """The message names the setting."""
    with pytest.raises(SettingsError, match="redis_url"):
        connect("http://somewhere")
