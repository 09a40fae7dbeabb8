"""Logs are events with context bound once; ``Event`` is the closed list of their names."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec
import structlog

from soundfleet_producer.settings import Settings
from soundfleet_schemas import ErrorCode, error

Log: TypeAlias = Any
"""A structlog logger, bound; its processors make its type dynamic."""


class Event(StrEnum):
    """Everything that a worker says."""

    started = "worker started"
    draining = "worker draining"
    stopped = "worker stopped"
    duty_failed = "duty failed"
    redis_away = "redis away"
    redis_back = "redis back"
    group_created = "consumer group created"
    swept = "scratch of dead workers removed"
    reaped = "jobs of lost workers requeued"

    orphaned = "jobs of lost answers handed back"
    backend_failed = "backend out of order"
    model_pulling = "model being pulled"
    model_pulled = "model pulled"
    model_failed = "model cannot be pulled"
    model_missing = "job handed back for want of a model"

    claimed = "job claimed"
    fetched = "source fetched"
    forwarded = "job forwarded"
    made = "job leaves the engine"
    replaced = "job replaced by a newer claim"
    completed = "job completed"
    retrying = "attempt failed, job will be retried"
    failed = "job failed"
    cancelled = "job cancelled"
    released = "job handed back"
    unjudged = "quality not judged"
    lost = "job lost to its lease"
    superseded = "job superseded"
    unsettled = "settlement dropped"

    engine_started = "engine started"
    engine_ready = "engine ready"
    engine_killed = "engine killed"
    engine_died = "engine died"
    engine_failed = "engine does not start"


def configure(settings: Settings) -> None:
    """Write events of ``log_level`` and above to stderr: for people on a terminal, else one JSON document a line."""
    level = logging.getLevelNamesMapping().get(settings.log_level.upper())
    if level is None:
        raise error(ErrorCode.INVALID_SETTING, f"log_level {settings.log_level!r} is not debug, info, warning or error")
    if settings.log_format not in ("auto", "console", "json"):
        raise error(ErrorCode.INVALID_SETTING, f"log_format {settings.log_format!r} is not auto, console or json")
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(_json)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *([] if console else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _json(event: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def get_log(**context: Any) -> Log:
    """A logger with its context bound."""
    return structlog.get_logger().bind(**context)
