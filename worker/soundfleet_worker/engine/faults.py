"""What an exception of a backend means: out of memory, a broken device, or an error of the run."""

from __future__ import annotations

import sys
import traceback

from soundfleet_schemas import ErrorCode, ErrorInfo, SoundfleetError, error

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "_STATUS_ALLOC_FAILED")
_BROKEN_DEVICE = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "illegal address",
    "misaligned address",
    "unspecified launch failure",
    "uncorrectable ECC",
    "hardware stack error",
    "context is destroyed",
    "GPU is lost",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_EXECUTION_FAILED",
)
"""CUDA errors after which every further call of the process fails."""
_DEVICE = ("CUDA error", "CUDA driver", "CUDA-capable device", "NVIDIA driver")
"""Other errors of the device: not the model's fault, and another worker may do better."""
DETAIL_CHARS = 8_000


class Poisoned(BaseException):
    """The device context is broken: the process must end. No Exception, because nobody on the way may catch it."""


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether memory ran out, on the host or on the device."""
    if isinstance(exc, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(exc, torch.OutOfMemoryError):
        return True
    return isinstance(exc, RuntimeError) and any(words in str(exc) for words in _NO_MEMORY)


def is_poison(exc: BaseException) -> bool:
    """Whether the device context is broken for good."""
    return isinstance(exc, RuntimeError) and any(words in str(exc) for words in _BROKEN_DEVICE)


def describe(exc: BaseException, otherwise: ErrorCode) -> ErrorInfo:
    """Return the error that a run ends with; ``otherwise`` is the code of what is not known by name."""
    if isinstance(exc, SoundfleetError):
        return exc.info
    if is_out_of_memory(exc):
        return error(ErrorCode.OUT_OF_MEMORY, _first_line(exc)).info
    if is_poison(exc) or (isinstance(exc, RuntimeError) and any(words in str(exc) for words in _DEVICE)):
        return error(ErrorCode.DEVICE_FAILED, _first_line(exc)).info
    return error(otherwise, _first_line(exc)).info


def trace(exc: BaseException) -> str:
    """Return the end of the traceback, or nothing for an error raised on purpose."""
    if isinstance(exc, SoundfleetError):
        return ""
    return "".join(traceback.format_exception(exc))[-DETAIL_CHARS:]


def let_go(exc: BaseException | None) -> None:
    """Clear the frames of an exception and of those behind it: their locals hold the memory that ran out."""
    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__ or exc.__context__


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {lines[0]}" if lines else type(exc).__name__
