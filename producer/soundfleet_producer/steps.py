"""The client's operations without I/O: generators that yield what is to be done and are sent what came of it.

Each operation is written once. ``Producer`` performs its steps with blocking calls, ``AsyncProducer`` with awaited
ones; an error of a step is thrown into the generator at the place where it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from soundfleet_schemas import JobEvent

from .queue.exchange import Exchange

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read:
    """Plain commands in one pipeline; ``queue`` adds them to it. Sends back the list of their replies."""

    queue: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Perform:
    """One verb. Sends back its answer."""

    exchange: Exchange[Any]


@dataclass(frozen=True, slots=True)
class PerformWhile:
    """Many verbs in one flight, and a call that is made while Redis works on them.

    Sends back the list of the verbs' answers, an error standing in its place, and what the call returned.
    """

    exchanges: Sequence[Exchange[Any]]
    meanwhile: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Blocking:
    """A call that blocks on files or object storage. Sends back what it returns."""

    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for entries of a stream after ``after``, on a connection of its own. Sends back the entries, or none."""

    stream: str
    after: str
    block_ms: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait. Sends back None."""

    seconds: float


Step: TypeAlias = Read | Perform | PerformWhile | Blocking | Await | Pause
Steps: TypeAlias = Generator[Step, Any, T]
EventSteps: TypeAlias = Generator[Step | JobEvent, Any, None]
"""An operation whose events are handed on to the caller as they are yielded."""
