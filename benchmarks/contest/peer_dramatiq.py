"""dramatiq with its Redis broker: one process of eight threads, no results, its defaults otherwise."""

from __future__ import annotations

import os
import sys
import time

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from payload import DOCUMENT, PROBE, unhurried
from probe import Listener, body

URL = os.environ["BENCH_REDIS_URL"]
QUEUE = "bench"

broker = RedisBroker(url=URL)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUE)
def noop(document: str) -> None:
    body(document)


WORKER_ENV: dict[str, str] = {}


def worker_command() -> list[str]:
    return [sys.executable, "-m", "dramatiq", "peer_dramatiq", "--processes", "1", "--threads", "8"]


def remaining(client: redis.Redis) -> int:
    """Messages that are not acknowledged."""
    return int(client.hlen(f"dramatiq:{QUEUE}.msgs"))


def publish(count: int) -> float:
    """Send one by one; return the seconds."""
    noop.send(DOCUMENT)
    began = time.perf_counter()
    for _ in range(count):
        noop.send(DOCUMENT)
    return time.perf_counter() - began


def publish_many(count: int) -> float:
    """It has no batches; the same as one by one."""
    return publish(count)


def preload(count: int) -> None:
    publish(count - 1)


def pickup(count: int) -> dict[str, list[float]]:
    """From the call of send until the actor begins, ms."""
    begun = []
    with Listener() as listener:
        for _ in unhurried(count):
            submitted = time.time_ns()
            noop.send(PROBE)
            begun.append((listener.wait() - submitted) / 1e6)
    return {"pickup_ms": begun}
