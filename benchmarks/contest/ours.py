"""Soundfleet: the real producer, and the real worker with a backend that makes nothing."""

from __future__ import annotations

import os
import sys
import time

import redis
from noop import SPEC
from payload import PROBE, SIZE_BYTES, unhurried
from probe import Listener

from soundfleet_producer import Producer
from soundfleet_schemas import GenerationRequest, Keys, SoundfleetError, encode

KEYS = Keys("bench")
WORKER_ENV = {
    "SOUNDFLEET_REDIS_URL": os.environ["BENCH_REDIS_URL"],
    "SOUNDFLEET_NAMESPACE": KEYS.namespace,
    "SOUNDFLEET_BACKENDS": "noop:NoopFactory",
    "SOUNDFLEET_ONLY": f"{SPEC.kind}.{SPEC.backend}",
    "SOUNDFLEET_DEVICE": "cpu",
    "SOUNDFLEET_SLOTS": "128",
    "SOUNDFLEET_LOG_LEVEL": "error",
    "SOUNDFLEET_LIMITS_MAX_PENDING": "10000000",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
}
"""Many slots, and nothing but the queue to wait for: a run that makes no audio stores none."""


def worker_command() -> list[str]:
    return [sys.executable, "-m", "soundfleet_worker"]


def remaining(client: redis.Redis) -> int:
    """Jobs that are not finished."""
    return int(client.zcard(KEYS.jobs())) - int(client.zcard(f"{KEYS.jobs()}:completed"))


def publish(count: int) -> float:
    """Submit one by one; return the seconds."""
    requests = _requests(count)
    with _producer() as fleet:
        fleet.submit(_requests(1)[0])
        began = time.perf_counter()
        for request in requests:
            fleet.submit(request)
        return time.perf_counter() - began


def publish_many(count: int) -> float:
    """Submit in one call; return the seconds."""
    requests = _requests(count)
    with _producer() as fleet:
        fleet.submit(_requests(1)[0])
        began = time.perf_counter()
        answers = fleet.submit_many(requests)
        took = time.perf_counter() - began
    refused = [answer for answer in answers if isinstance(answer, SoundfleetError)]
    if refused:
        raise refused[0]
    return took


def preload(count: int) -> None:
    """Fill the queue that the worker drains."""
    publish_many(count - 1)


def pickup(count: int) -> dict[str, list[float]]:
    """From the call of submit until the claim by Redis' clock (to the ms), and until the engine begins; ms."""
    claimed, begun = [], []
    with _producer() as fleet, Listener() as listener:
        for _ in unhurried(count):
            request = _requests(1, PROBE)[0]
            submitted = time.time_ns()
            fleet.submit(request)
            begun.append((listener.wait() - submitted) / 1e6)
            started = fleet.status(request.id).started_at
            if started is not None:
                claimed.append(max(0.0, started.timestamp() * 1e3 + 0.5 - submitted / 1e6))
    return {"pickup_ms": begun, "claimed_ms": claimed}


def _producer() -> Producer:
    return Producer.from_env({name: value for name, value in WORKER_ENV.items() if not name.endswith("_ONLY")})


def _requests(count: int, prompt: str = "x") -> list[GenerationRequest]:
    """Requests whose documents have the size of the peers'."""

    def request(text: str, seed: int) -> GenerationRequest:
        return GenerationRequest(prompt=text, duration_sec=30, backend=SPEC.backend, seed=seed, use_cache=False)

    first = 10**9
    room = SIZE_BYTES - len(encode(request("", first)))
    text = prompt.ljust(room, "x")[:room]
    return [request(text, first + number) for number in range(count)]
