"""taskiq with taskiq-redis' stream broker: acknowledged messages, no result backend, its defaults otherwise."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import redis
from payload import DOCUMENT, PROBE, unhurried
from probe import Listener, body
from taskiq_redis import RedisStreamBroker

STREAM = "bench-taskiq"
URL = os.environ["BENCH_REDIS_URL"]
TOGETHER = 50

broker = RedisStreamBroker(URL, queue_name=STREAM, consumer_id="0")  # from 0: the queue is filled before the worker


@broker.task(task_name="noop")
async def noop(document: str) -> None:
    body(document)


WORKER_ENV: dict[str, str] = {}


def worker_command() -> list[str]:
    return [sys.executable, "-m", "taskiq", "worker", "peer_taskiq:broker", "--workers", "1", "--log-level", "ERROR"]


def remaining(client: redis.Redis) -> int:
    """Messages that are not acknowledged."""
    (group,) = client.xinfo_groups(STREAM)
    return int(group["lag"] or 0) + int(group["pending"])


def publish(count: int) -> float:
    """Send one by one; return the seconds."""

    async def send() -> float:
        await broker.startup()
        await noop.kiq(DOCUMENT)
        began = time.perf_counter()
        for _ in range(count):
            await noop.kiq(DOCUMENT)
        took = time.perf_counter() - began
        await broker.shutdown()
        return took

    return asyncio.run(send())


def publish_many(count: int) -> float:
    """It has no batches: send ``TOGETHER`` at once; return the seconds."""

    async def send() -> float:
        await broker.startup()
        await noop.kiq(DOCUMENT)
        began = time.perf_counter()
        for start in range(0, count, TOGETHER):
            await asyncio.gather(*(noop.kiq(DOCUMENT) for _ in range(min(TOGETHER, count - start))))
        took = time.perf_counter() - began
        await broker.shutdown()
        return took

    return asyncio.run(send())


def preload(count: int) -> None:
    publish_many(count - 1)


def pickup(count: int) -> dict[str, list[float]]:
    """From the call that sends until the task begins, ms."""

    async def send() -> list[float]:
        await broker.startup()
        begun = []
        with Listener() as listener:
            for _ in unhurried(count):
                submitted = time.time_ns()
                await noop.kiq(PROBE)
                begun.append((listener.wait() - submitted) / 1e6)
        await broker.shutdown()
        return begun

    return {"pickup_ms": asyncio.run(send())}
