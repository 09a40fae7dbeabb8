"""Orphans: jobs that Redis gave to this worker in an answer that never arrived."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from soundfleet_producer.queue.verbs import Reply, Token, release
from soundfleet_schemas import ErrorCode, Keys, Limits, error

from .batcher import Performs

AT_ONCE = 500
UNHEARD = error(
    ErrorCode.QUEUE_UNAVAILABLE,
    "the worker did not hear that it was given the job",
    "Wait for another worker; no attempt is charged.",
).info


async def release_orphans(
    client: Any,
    verbs: Performs,
    keys: Keys,
    limits: Limits,
    worker_id: str,
    in_hand: Container[str],
    serves: Callable[[str], bool] = lambda _lane: True,
) -> list[str]:
    """Hand back the jobs that are leased to this worker and not in its hand, uncharged; return their ids.

    Of the lanes that ``serves`` names, and to be called while no claim for these is under way. Without it they would
    wait for their lease, and be charged a crash.
    """
    released = []
    ids = [raw.decode() for raw in await client.zrange(keys.leases, 0, -1)]
    for start in range(0, len(ids), AT_ONCE):
        part = [job_id for job_id in ids[start : start + AT_ONCE] if job_id not in in_hand]
        async with client.pipeline(transaction=False) as pipe:
            for job_id in part:
                pipe.hmget(keys.job(job_id), "worker", "attempt", "lane")
            holders = await pipe.execute()
        for job_id, (worker, attempt, lane) in zip(part, holders, strict=True):
            if worker is not None and worker.decode() == worker_id and serves(lane.decode()):
                token = Token(job_id, worker_id, int(attempt))
                if await verbs.perform(release(keys, token, limits, UNHEARD)) is Reply.ok:
                    released.append(job_id)
    return released
