"""Describe the exchange, then perform it: a verb is a value, and the sync and async faces differ in one method.

A verb builds an ``Exchange`` (which script, which keys, which arguments, how to read the reply). ``perform`` and
``aperform`` send it to Redis; ``perform_all`` and ``aperform_all`` send many in one pipeline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Generic, TypeVar

import redis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError

from soundfleet_schemas import ErrorCode, QueueError, SoundfleetError, error

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua verb: the prelude that all share, and its own file."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """Load ``lua/<name>.lua`` behind the shared prelude."""
    room = files(__package__) / "lua"
    source = (room / "prelude.lua").read_text() + "\n" + (room / f"{name}.lua").read_text()
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Exchange(Generic[T]):
    """One atomic exchange with Redis."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes | int]
    read: Callable[[Any], T]
    """Turns the reply into the verb's answer, or raises the error that the reply names."""


def perform(client: redis.Redis, exchange: Exchange[T]) -> T:
    """Send one exchange. Raises QUEUE_UNAVAILABLE when Redis is away."""
    try:
        reply = _run(client, exchange)
    except RedisError as exc:
        raise unavailable(exc) from exc
    return exchange.read(reply)


def _run(client: redis.Redis, exchange: Exchange[Any]) -> Any:
    head = exchange.script
    try:
        return client.evalsha(head.sha, len(exchange.keys), *exchange.keys, *exchange.args)
    except NoScriptError:
        return client.eval(head.source, len(exchange.keys), *exchange.keys, *exchange.args)


def perform_all(client: redis.Redis, exchanges: Sequence[Exchange[T]]) -> list[T | SoundfleetError]:
    """Send many exchanges in one pipeline; each answers for itself, an error standing in its place."""
    try:
        with client.pipeline(transaction=False) as pipe:
            replies = _queue(pipe, exchanges).execute(raise_on_error=False)
            if unknown := _unknown(exchanges, replies):
                again = _queue(pipe, list(unknown.values()), load=True).execute(raise_on_error=False)
                _mend(replies, unknown, again)
    except RedisError as exc:
        raise unavailable(exc) from exc
    return [_read(exchange, reply) for exchange, reply in zip(exchanges, replies, strict=True)]


async def aperform(client: redis.asyncio.Redis, exchange: Exchange[T]) -> T:
    """Send one exchange. Raises QUEUE_UNAVAILABLE when Redis is away."""
    head = exchange.script
    try:
        try:
            reply = await client.evalsha(head.sha, len(exchange.keys), *exchange.keys, *exchange.args)
        except NoScriptError:
            reply = await client.eval(head.source, len(exchange.keys), *exchange.keys, *exchange.args)
    except RedisError as exc:
        raise unavailable(exc) from exc
    return exchange.read(reply)


async def aperform_all(client: redis.asyncio.Redis, exchanges: Sequence[Exchange[T]]) -> list[T | SoundfleetError]:
    """Send many exchanges in one pipeline; each answers for itself, an error standing in its place."""
    try:
        async with client.pipeline(transaction=False) as pipe:
            replies = await _queue(pipe, exchanges).execute(raise_on_error=False)
            if unknown := _unknown(exchanges, replies):
                again = await _queue(pipe, list(unknown.values()), load=True).execute(raise_on_error=False)
                _mend(replies, unknown, again)
    except RedisError as exc:
        raise unavailable(exc) from exc
    return [_read(exchange, reply) for exchange, reply in zip(exchanges, replies, strict=True)]


def _queue(pipe: Any, exchanges: Sequence[Exchange[Any]], load: bool = False) -> Any:
    if load:
        for head in {exchange.script for exchange in exchanges}:
            pipe.script_load(head.source)
    for exchange in exchanges:
        pipe.evalsha(exchange.script.sha, len(exchange.keys), *exchange.keys, *exchange.args)
    return pipe


def _unknown(exchanges: Sequence[Exchange[T]], replies: list[Any]) -> dict[int, Exchange[T]]:
    """The exchanges whose script the server did not know (it was restarted), by position."""
    return {i: exchanges[i] for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)}


def _mend(replies: list[Any], unknown: dict[int, Exchange[Any]], again: list[Any]) -> None:
    """Put the replies of the second try, which follow those of the loads, where they belong."""
    replies_again = again[len(again) - len(unknown) :]
    for position, reply in zip(unknown, replies_again, strict=True):
        replies[position] = reply


def _read(exchange: Exchange[Any], reply: Any) -> Any:
    if isinstance(reply, RedisError):
        return unavailable(reply)
    try:
        return exchange.read(reply)
    except SoundfleetError as exc:
        return exc


def unavailable(exc: Exception) -> SoundfleetError:
    """Turn a client or server error of Redis into QUEUE_UNAVAILABLE."""
    return error(ErrorCode.QUEUE_UNAVAILABLE, f"Redis did not answer: {exc}")


__all__ = ["Exchange", "QueueError", "aperform", "aperform_all", "perform", "perform_all", "script", "unavailable"]
