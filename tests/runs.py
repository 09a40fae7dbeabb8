"""A run in the hand of a test: its clock, and a server that answers from a list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from soundfleet_producer.queue.exchange import Exchange
from soundfleet_producer.queue.verbs import Claim, Reply, Token
from soundfleet_schemas import Keys, Limits, new_id
from soundfleet_worker.supervisor.run import Run
from soundfleet_worker.supervisor.scratch import Scratch

KEYS = Keys("test")
LIMITS = Limits(lease_sec=10, lease_trust=0.9, renew_every_sec=2)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.sec = 1000.0

    def __call__(self) -> float:
        return self.sec


class Server:
    """Records exchanges by their script's name, and answers each from a list."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, list[Any]]] = []

    def perform(self, exchange: Exchange[Any]) -> Awaitable[Any]:
        self.asked.append((exchange.script.name, list(exchange.args)))
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer = self.answers.pop(0) if self.answers else Reply.ok
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future


@contextmanager
def run_in_hand(time: Clock, directory: Path) -> Iterator[Run]:
    """A run whose lease began now."""
    scratch = Scratch(str(directory))
    claim = Claim(Token(new_id(), "w", 1), tries=1, crashes=0, raw_request=b"", created_at_ms=0)
    yield Run(claim, time.sec, LIMITS, scratch, structlog.get_logger())
    scratch.close()
