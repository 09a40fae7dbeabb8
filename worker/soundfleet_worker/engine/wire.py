"""The messages between a supervisor and its engine process: length-prefixed msgpack over a socket pair.

Audio never crosses here: it lies in memory-mapped files in the run's scratch directory, and messages name paths.
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import msgspec

from soundfleet_schemas import Backend, BackendSpec, ErrorInfo, JobRequest, Stage

EXIT_POISONED = 76
"""Exit status after ``Failed(poisoned=True)``: the device context is broken, a new process may be well."""
EXIT_ORPHANED = 77
"""Exit status when the supervisor's end of the socket closed."""
EXIT_REFUSED = 78
"""Exit status when the configuration is wrong: stderr's last line says why, and a new process would fare no better."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Start(_Message, frozen=True, kw_only=True):
    """Run a job. ``run`` is the supervisor's own name of the run (job id and attempt)."""

    run: str
    job_id: str
    request: JobRequest
    backend: str
    scratch: str
    inputs: dict[str, str] = {}
    """Files of decoded audio by name."""


class Cancel(_Message, frozen=True, kw_only=True):
    """Drop a run, waiting or running; answered by Cancelled, or by Finished/Failed when that came first."""

    run: str


class Look(_Message, frozen=True, kw_only=True):
    """Look again for backends that were not installed: files have come."""


class Shutdown(_Message, frozen=True, kw_only=True):
    """Drop everything and exit with status 0."""


class Ready(_Message, frozen=True, kw_only=True):
    """The engine listens: first message, and again whenever a backend's status changes."""

    device: str
    budget_mb: int = 0
    """Memory for models and runs; 0 is not told."""
    backends: tuple[Backend, ...]
    places: dict[str, int] = {}
    """How many runs the model of a backend takes at once, of those that are loaded."""
    specs: tuple[BackendSpec, ...] = ()
    """What validation needs to know of the same backends, foreign ones included."""


class Progress(_Message, frozen=True, kw_only=True):
    """A run moved (at most every 50 ms per run, always at stage changes)."""

    run: str
    stage: Stage
    current_step: int
    total_steps: int
    left_sec: float | None = None
    """What the model foretells; else the steps tell."""


class OutputFile(msgspec.Struct, frozen=True, kw_only=True):
    """One output: ``.npy`` of float32, shape (channels, samples), in the run's scratch directory."""

    name: str
    path: str


class Finished(_Message, frozen=True, kw_only=True):
    """A run is done and its audio lies in scratch."""

    run: str
    outputs: tuple[OutputFile, ...]
    sample_rate: int
    parameters: dict[str, Any]
    warnings: tuple[str, ...]
    load_sec: float
    infer_sec: float
    peak_memory_mb: int


class Failed(_Message, frozen=True, kw_only=True):
    """A run ended with an error; the engine goes on unless it says ``poisoned``."""

    run: str
    error: ErrorInfo
    detail: str = ""
    """Traceback, for the log and the dead letter."""
    poisoned: bool = False
    """The device context is broken: the supervisor must respawn the engine."""


class Cancelled(_Message, frozen=True, kw_only=True):
    """A run was dropped between two steps."""

    run: str
    current_step: int
    total_steps: int


ToEngine: TypeAlias = Start | Cancel | Look | Shutdown
FromEngine: TypeAlias = Ready | Progress | Finished | Failed | Cancelled

_ENCODER = msgspec.msgpack.Encoder()
TO_ENGINE: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(Start | Cancel | Look | Shutdown)
FROM_ENGINE: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(
    Ready | Progress | Finished | Failed | Cancelled
)
HEADER = struct.Struct(">I")
"""Frame header: the payload's length in bytes."""


def frame(message: ToEngine | FromEngine) -> bytes:
    """Encode a message with its length before it."""
    payload = _ENCODER.encode(message)
    return HEADER.pack(len(payload)) + payload
