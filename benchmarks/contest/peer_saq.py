"""SAQ, with its defaults (ten jobs at a time, results kept for ten minutes)."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

import redis
from payload import DOCUMENT, PROBE, unhurried
from probe import Listener, body
from saq import Queue

NAME = "bench-saq"
URL = os.environ["BENCH_REDIS_URL"]
TOGETHER = 50


async def noop(_context: Any, *, document: str) -> None:
    body(document)


queue = Queue.from_url(URL, name=NAME)
settings = {"queue": queue, "functions": [("noop", noop)]}
WORKER_ENV: dict[str, str] = {}


def worker_command() -> list[str]:
    return [sys.executable, "-m", "saq", "peer_saq.settings", "--quiet"]


def remaining(client: redis.Redis) -> int:
    """Jobs that are not finished."""
    return int(client.zcard(f"saq:{NAME}:incomplete"))


def publish(count: int) -> float:
    """Enqueue one by one; return the seconds."""

    async def send() -> float:
        await queue.connect()
        await queue.enqueue("noop", document=DOCUMENT)
        began = time.perf_counter()
        for _ in range(count):
            await queue.enqueue("noop", document=DOCUMENT)
        took = time.perf_counter() - began
        await queue.disconnect()
        return took

    return asyncio.run(send())


def publish_many(count: int) -> float:
    """It has no batches: enqueue ``TOGETHER`` at once; return the seconds."""

    async def send() -> float:
        await queue.connect()
        await queue.enqueue("noop", document=DOCUMENT)
        began = time.perf_counter()
        for start in range(0, count, TOGETHER):
            several = range(min(TOGETHER, count - start))
            await asyncio.gather(*(queue.enqueue("noop", document=DOCUMENT) for _ in several))
        took = time.perf_counter() - began
        await queue.disconnect()
        return took

    return asyncio.run(send())


def preload(count: int) -> None:
    publish_many(count - 1)


def pickup(count: int) -> dict[str, list[float]]:
    """From the call of enqueue until the job begins, ms."""

    async def send() -> list[float]:
        await queue.connect()
        begun = []
        with Listener() as listener:
            for _ in unhurried(count):
                submitted = time.time_ns()
                await queue.enqueue("noop", document=PROBE)
                begun.append((listener.wait() - submitted) / 1e6)
        await queue.disconnect()
        return begun

    return {"pickup_ms": asyncio.run(send())}
