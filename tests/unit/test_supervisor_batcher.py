"""What is asked for together goes together, and each hears its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from soundfleet_worker.supervisor.batcher import AT_MOST, Coalescer


class Server:
    """Answers n with 2n, and 13 with an error; holds every request until told to go on."""

    def __init__(self) -> None:
        self.requests: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    async def answer(self, questions: Sequence[int]) -> Sequence[object]:
        self.requests.append(list(questions))
        await self.open.wait()
        if self.away:
            raise ConnectionError("away")
        return [ValueError("13") if question == 13 else 2 * question for question in questions]


async def test_questions_of_one_moment_are_one_request() -> None:
    """Three tasks, one request; the error is the one task's who asked for it."""
    server = Server()
    coalescer: Coalescer[int] = Coalescer(server.answer)
    answers = await asyncio.gather(*(coalescer.ask(n) for n in (1, 13, 3)), return_exceptions=True)
    assert (answers[0], answers[2]) == (2, 6)
    assert isinstance(answers[1], ValueError)
    assert server.requests == [[1, 13, 3]]


async def test_what_is_asked_meanwhile_waits_for_the_next_request() -> None:
    """One request is under way at a time, and the next takes all that has gathered."""
    server = Server()
    coalescer: Coalescer[int] = Coalescer(server.answer)
    server.open.clear()
    first = coalescer.ask(1)
    await asyncio.sleep(0)
    later = [coalescer.ask(n) for n in range(2, 5)]
    await asyncio.sleep(0)
    server.open.set()
    assert await asyncio.gather(first, *later) == [2, 4, 6, 8]
    assert server.requests == [[1], [2, 3, 4]]


async def test_a_request_has_a_bound() -> None:
    """A backlog is cut into pieces that a server answers quickly."""
    server = Server()
    coalescer: Coalescer[int] = Coalescer(server.answer)
    await asyncio.gather(*(coalescer.ask(0) for _ in range(AT_MOST + 1)))
    assert [len(request) for request in server.requests] == [AT_MOST, 1]


async def test_a_failed_request_is_told_to_everybody_and_the_next_one_goes() -> None:
    """Nobody waits for an answer that cannot come; who has gone away does not disturb."""
    server = Server()
    server.away = True
    coalescer: Coalescer[int] = Coalescer(server.answer)
    impatient = coalescer.ask(1)
    impatient.cancel()
    with pytest.raises(ConnectionError):
        await coalescer.ask(2)
    server.away = False
    assert await coalescer.ask(3) == 6
    await coalescer.close()
