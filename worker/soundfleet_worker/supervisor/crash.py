"""Why an engine died, from what is left of it: a pure function of facts."""

from __future__ import annotations

import re
import signal
from typing import NamedTuple

from soundfleet_schemas import ErrorCode, ErrorInfo, error

_MEMORY = re.compile(r"MemoryError|out of memory|cannot allocate memory|std::bad_alloc", re.IGNORECASE)
_DEVICE = re.compile(
    r"device-side assert|illegal memory access|CUDA error|CUDNN_STATUS|CUBLAS_STATUS|\bXid\b|uncorrectable ECC",
    re.IGNORECASE,
)


class Death(NamedTuple):
    """The facts of an engine's end."""

    status: int
    """Exit status; the negative signal number when a signal ended it."""
    oom_kills: int = 0
    """Processes that the kernel killed for want of memory while the engine lived."""
    stderr: str = ""
    """Its last words."""


def attribute(death: Death) -> ErrorInfo:
    """Name the error of the run that was on the engine: OUT_OF_MEMORY, DEVICE_FAILED or WORKER_CRASHED."""
    how = describe(death.status)
    if death.status == -signal.SIGKILL and death.oom_kills > 0:
        return error(ErrorCode.OUT_OF_MEMORY, "the kernel killed the engine because the machine was out of memory").info
    if _DEVICE.search(death.stderr):
        return error(ErrorCode.DEVICE_FAILED, f"the engine's device failed and the engine {how}").info
    if _MEMORY.search(death.stderr):
        return error(ErrorCode.OUT_OF_MEMORY, f"the engine ran out of memory and {how}").info
    return error(ErrorCode.WORKER_CRASHED, f"the engine {how} while it ran the job").info


def describe(status: int) -> str:
    """Say how a process ended: ``exited with status 3``, ``was killed by SIGSEGV``."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
