"""Consumers of the lanes' groups: the names under which workers claim, taken out when they are done with."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from soundfleet_schemas import GROUP, Keys

DEAD_AFTER_MS = 3_600_000
"""Idle time after which a consumer without entries, whose worker is not heard of, is taken out."""


class Consumer(NamedTuple):
    """A worker's name in one lane's group."""

    lane: str
    """As scripts name it, without the key's prefix."""
    name: str
    pending: int
    """Entries that were delivered to it and not acknowledged."""
    idle_ms: int


async def drop_own(client: Any, keys: Keys, worker_id: str) -> None:
    """Take a worker's consumer out of every group, unless entries are pending: those would vanish with it."""
    for consumer in await list_consumers(client, keys):
        if consumer.name == worker_id and consumer.pending == 0:
            await _drop(client, keys, consumer)


async def drop_dead(client: Any, keys: Keys, consumers: list[Consumer]) -> None:
    """Take out the consumers of workers that are long gone."""
    for consumer in consumers:
        gone = consumer.pending == 0 and consumer.idle_ms >= DEAD_AFTER_MS
        if gone and not await client.exists(keys.worker(consumer.name)):
            await _drop(client, keys, consumer)


async def list_consumers(client: Any, keys: Keys) -> list[Consumer]:
    """Every consumer of every lane."""
    found = []
    for raw in await client.smembers(keys.lanes):
        lane = raw.decode()
        try:
            consumers = await client.xinfo_consumers(keys.lane_prefix + lane, GROUP)
        except ResponseError:  # the lane has no group yet
            continue
        found += [Consumer(lane, c["name"].decode(), int(c["pending"]), int(c["idle"])) for c in consumers]
    return found


async def _drop(client: Any, keys: Keys, consumer: Consumer) -> None:
    await client.xgroup_delconsumer(keys.lane_prefix + consumer.lane, GROUP, consumer.name)
