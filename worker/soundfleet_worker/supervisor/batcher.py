"""What is asked for at the same time goes to Redis together.

One request is under way at a time; what is asked for meanwhile waits for the next. So an idle worker asks at once,
and a busy one asks dozens of things in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from soundfleet_producer.queue.exchange import Exchange, aperform_all

T = TypeVar("T")
Q = TypeVar("Q")

AT_MOST = 256
"""Questions in one request; a server is held up by a longer one."""


class Coalescer(Generic[Q]):
    """Collects questions and asks them together; ``ask_all`` answers in order, an exception being an answer too."""

    def __init__(self, ask_all: Callable[[Sequence[Q]], Awaitable[Sequence[Any]]]) -> None:
        self._ask_all = ask_all
        self._waiting: list[tuple[Q, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    def ask(self, question: Q) -> asyncio.Future[Any]:
        """Send a question with the next request."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send(), name="batcher")
        return future

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._sender is not None:
            await asyncio.wait([self._sender])

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:AT_MOST], self._waiting[AT_MOST:]
                for (_, future), answer in zip(batch, await self._answers(batch), strict=True):
                    _resolve(future, answer)
        finally:
            self._sender = None

    async def _answers(self, batch: Sequence[tuple[Q, asyncio.Future[Any]]]) -> Sequence[Any]:
        try:
            return await self._ask_all([question for question, _ in batch])
        except Exception as exc:  # whatever it is: those who asked must hear of it, and the next batch must go
            return [exc] * len(batch)


class Performs(Protocol):
    """What can perform an exchange."""

    def perform(self, exchange: Exchange[T]) -> Awaitable[T]:
        """Raises QUEUE_UNAVAILABLE when Redis is away."""


class Batcher:
    """Performs exchanges in common pipelines of one client."""

    def __init__(self, client: Any) -> None:
        self._coalescer: Coalescer[Exchange[Any]] = Coalescer(lambda exchanges: aperform_all(client, exchanges))

    def perform(self, exchange: Exchange[T]) -> Awaitable[T]:
        """Send one exchange with the next pipeline. Raises QUEUE_UNAVAILABLE when Redis is away."""
        return self._coalescer.ask(exchange)

    async def close(self) -> None:
        """Wait for what is under way."""
        await self._coalescer.close()


def _resolve(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():  # whoever asked was cancelled meanwhile
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
