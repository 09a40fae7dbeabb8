"""How a run can end, as values: the lifecycle makes one, and ``settle`` acts on it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from soundfleet_schemas import ErrorInfo, JobResult, Lane, UploadSource


class Completed(NamedTuple):
    """The output lies in storage (or in an earlier job) and waits to be committed."""

    result: JobResult
    fingerprint: str | None


class Forward(NamedTuple):
    """The job goes on in another lane: to its backend, or to where its sources are fetched."""

    lane: Lane
    fetched: Mapping[str, UploadSource] = {}
    """What was stored in the place of web addresses, by the source's name; nothing on the way to be fetched."""


class Failed(NamedTuple):
    """The attempt failed; ``detail`` (a traceback, the engine's last words) is for the log and the dead letter."""

    error: ErrorInfo
    detail: str = ""
    waits_for: str | None = None
    """The unfinished job whose output is a source."""


class Stop(StrEnum):
    """Why a run was told to stop before its end; a later member overrules an earlier one."""

    unready = "unready"
    """This worker cannot get the model now: the job is handed back, and another may have it."""
    drained = "drained"
    """The worker shuts down: the job is handed back."""
    cancelled = "cancelled"
    """The job's cancellation was asked for."""
    lost = "lost"
    """The lease is not ours any more: nothing may be said of the job."""


STRENGTH = {stop: rank for rank, stop in enumerate(Stop)}

Outcome: TypeAlias = Completed | Forward | Failed | Stop
