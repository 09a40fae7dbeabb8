"""Consumers of the lanes' groups: the names under which workers claim, taken out when they are done with."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from soundfleet_schemas import GROUP, Keys

DEAD_AFTER_MS = 3_600_000
"""Idle time after which a consumer without entries, whose worker is not heard of, is taken out."""


async def drop_own(client: Any, keys: Keys, worker_id: str) -> None:
    """Take a worker's consumer out of every group, unless entries are pending: those would vanish with it."""
    for lane, name, pending, _ in await _consumers(client, keys):
        if name == worker_id and pending == 0:
            await client.xgroup_delconsumer(lane, GROUP, name)


async def drop_dead(client: Any, keys: Keys) -> None:
    """Take out the consumers of workers that are long gone."""
    for lane, name, pending, idle_ms in await _consumers(client, keys):
        if pending == 0 and idle_ms >= DEAD_AFTER_MS and not await client.exists(keys.worker(name)):
            await client.xgroup_delconsumer(lane, GROUP, name)


async def _consumers(client: Any, keys: Keys) -> list[tuple[str, str, int, int]]:
    """Every consumer as (lane's key, name, pending entries, idle ms)."""
    found = []
    for raw in await client.smembers(keys.lanes):
        lane = f"{keys.lane_prefix}{raw.decode()}"
        try:
            consumers = await client.xinfo_consumers(lane, GROUP)
        except ResponseError:  # the lane has no group yet
            continue
        found += [(lane, c["name"].decode(), int(c["pending"]), int(c["idle"])) for c in consumers]
    return found
