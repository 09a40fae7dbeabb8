"""Who may be on the engine together: anyone, or one suspect alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Runs enter together; one that is suspected of crashing the engine enters alone, and goes before new ones."""

    def __init__(self) -> None:
        self._inside = 0
        self._alone = False
        self._suspects_waiting = 0
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def enter(self, alone: bool) -> AsyncIterator[None]:
        """Wait for admission, and leave at the end."""
        if alone:
            self._suspects_waiting += 1
            try:
                while self._inside:
                    await self._change()
            finally:
                self._suspects_waiting -= 1
                self._wake()
        else:
            while self._alone or self._suspects_waiting:
                await self._change()
        self._inside += 1
        self._alone = alone
        try:
            yield
        finally:
            self._inside -= 1
            self._alone = False
            self._wake()

    async def _change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
