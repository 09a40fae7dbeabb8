"""How a run can end, as values: the lifecycle makes one, and ``settle`` acts on it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, TypeAlias

from soundfleet_schemas import ErrorInfo, JobResult


class Completed(NamedTuple):
    """The output lies in storage (or in an earlier job) and waits to be committed."""

    result: JobResult
    fingerprint: str | None


class Failed(NamedTuple):
    """The attempt failed; ``detail`` (a traceback, the engine's last words) is for the log and the dead letter."""

    error: ErrorInfo
    detail: str = ""


class Stop(StrEnum):
    """Why a run was told to stop before its end; a later member overrules an earlier one."""

    drained = "drained"
    """The worker shuts down: the job is handed back."""
    cancelled = "cancelled"
    """The job's cancellation was asked for."""
    lost = "lost"
    """The lease is not ours any more: nothing may be said of the job."""


STRENGTH = {stop: rank for rank, stop in enumerate(Stop)}

Outcome: TypeAlias = Completed | Failed | Stop
