"""Doing several things of one run at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def all_of(parts: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all at once; the first error ends the others, and is raised as it is."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:  # a cancellation ends the others just as well
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
