"""Sending many verbs and doing something else while Redis works on them.

The server takes about as long for a flight of submissions as it takes to check and encode the next one. Should the
connection break on the way, the whole flight is sent again; should the server forget its scripts between loading and
calling them, the calls that it did not know. Every verb may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.exceptions import NoScriptError, RedisError, ResponseError

from soundfleet_schemas import SoundfleetError

from .queue.exchange import Exchange, aperform_all, perform_all, unavailable

T = TypeVar("T")
M = TypeVar("M")
Answers = list[T | SoundfleetError]


def perform_while(
    client: redis.Redis, exchanges: Sequence[Exchange[T]], meanwhile: Callable[[], M]
) -> tuple[Answers[T], M]:
    """Send exchanges in one flight, call ``meanwhile`` once, and read the answers, an error standing in its place."""
    if not exchanges:
        return [], meanwhile()
    connection: Any = _acquire(client)
    made: list[M] = []
    replies: list[Any] | None = None
    try:
        connection.send_packed_command(connection.pack_commands(_commands(exchanges)))
        made.append(meanwhile())
        replies = [_reply(connection) for _ in range(_loads(exchanges) + len(exchanges))]
    except RedisError:
        connection.disconnect()
    except BaseException:  # interrupted: what is still on its way must not answer the next user of the connection
        connection.disconnect()
        raise
    finally:
        client.connection_pool.release(connection)
    if replies is None:  # only now: the pool may hold no second connection
        return perform_all(client, exchanges), made[0] if made else meanwhile()
    answers = _answers(exchanges, replies)
    if unknown := _unknown(exchanges, replies):
        _mend(answers, unknown, perform_all(client, [exchanges[i] for i in unknown]))
    return answers, made[0]


async def aperform_while(
    client: redis.asyncio.Redis, exchanges: Sequence[Exchange[T]], meanwhile: Callable[[], M]
) -> tuple[Answers[T], M]:
    """``perform_while`` for asyncio; ``meanwhile`` holds up the loop for as long as it takes."""
    if not exchanges:
        return [], meanwhile()
    pool: Any = client.connection_pool
    try:
        connection: Any = await pool.get_connection()
    except RedisError as exc:
        raise unavailable(exc) from exc
    made: list[M] = []
    replies: list[Any] | None = None
    try:
        await connection.send_packed_command(connection.pack_commands(_commands(exchanges)))
        made.append(meanwhile())
        replies = [await _areply(connection) for _ in range(_loads(exchanges) + len(exchanges))]
    except RedisError:
        await connection.disconnect(nowait=True)
    except BaseException:  # as above
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
    if replies is None:  # as above
        return await aperform_all(client, exchanges), made[0] if made else meanwhile()
    answers = _answers(exchanges, replies)
    if unknown := _unknown(exchanges, replies):
        _mend(answers, unknown, await aperform_all(client, [exchanges[i] for i in unknown]))
    return answers, made[0]


def _acquire(client: redis.Redis) -> Any:
    try:
        return client.connection_pool.get_connection()
    except RedisError as exc:
        raise unavailable(exc) from exc


def _commands(exchanges: Sequence[Exchange[Any]]) -> list[tuple[Any, ...]]:
    """The scripts, so that a restarted server knows them, and the calls."""
    loads = [("SCRIPT LOAD", head.source) for head in {exchange.script for exchange in exchanges}]
    calls = [("EVALSHA", e.script.sha, len(e.keys), *e.keys, *e.args) for e in exchanges]
    return [*loads, *calls]


def _loads(exchanges: Sequence[Exchange[Any]]) -> int:
    return len({exchange.script for exchange in exchanges})


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as exc:
        return exc


async def _areply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as exc:
        return exc


def _unknown(exchanges: Sequence[Exchange[Any]], replies: list[Any]) -> list[int]:
    """Positions of the exchanges whose script was flushed in flight."""
    return [i for i, reply in enumerate(replies[_loads(exchanges) :]) if isinstance(reply, NoScriptError)]


def _mend(answers: Answers[T], unknown: list[int], again: Answers[T]) -> None:
    for position, answer in zip(unknown, again, strict=True):
        answers[position] = answer


def _answers(exchanges: Sequence[Exchange[T]], replies: list[Any]) -> Answers[T]:
    answers: Answers[T] = []
    for exchange, reply in zip(exchanges, replies[_loads(exchanges) :], strict=True):
        try:
            answers.append(unavailable(reply) if isinstance(reply, ResponseError) else exchange.read(reply))
        except SoundfleetError as exc:
            answers.append(exc)
    return answers
