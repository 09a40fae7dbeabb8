"""What an exception of a backend means: out of memory, a broken device, or an error of the run."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator

from soundfleet_schemas import ErrorCode, ErrorInfo, SoundfleetError, error

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "_ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "unable to find an engine to execute",
)
"""The last two say that cuBLAS had no memory for its handle, or cuDNN none for any of its kernels."""
_BROKEN_DEVICE = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "illegal address",
    "misaligned address",
    "invalid program counter",
    "global/shared address space",
    "unspecified launch failure",
    "launch timed out",
    "uncorrectable ECC",
    "uncorrectable NVLink",
    "hardware stack error",
    "context is destroyed",
    "GPU is lost",
    "CUDA error: unknown error",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUFFT_EXEC_FAILED",
)
_BROKEN_NUMBERS = frozenset({214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999})
"""CUDA errors after which every further call of the process fails: by their words, and by ``cudaError_t``."""
_DEVICE = ("CUDA error", "CUDA driver", "CUDA-capable device", "NVIDIA driver", "cuDNN error", "cuFFT error")
"""Other errors of the device: not the model's fault, and another worker may do better."""
_CAPTURE = ("during capture", "is capturing", "nvalid capture", "apture was invalidated")
"""Errors of a graph that hide what went wrong inside it."""
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
    if not isinstance(exc, RuntimeError):
        return False
    if _says(exc, _CAPTURE):
        return any(is_out_of_memory(hidden) for hidden in behind(exc) if not _says(hidden, _CAPTURE))
    return _says(exc, _NO_MEMORY)


def is_poison(exc: BaseException) -> bool:
    """Whether the device context is broken for good, whatever was raised on top of that."""
    return any(
        isinstance(one, RuntimeError)
        and (getattr(one, "error_code", None) in _BROKEN_NUMBERS or _says(one, _BROKEN_DEVICE))
        for one in (exc, *behind(exc))
    )


def behind(exc: BaseException) -> Iterator[BaseException]:
    """The exceptions that led to one, the latest first."""
    seen = {id(exc)}
    while (before := exc.__cause__ or exc.__context__) is not None and id(before) not in seen:
        seen.add(id(before))
        yield before
        exc = before


def _says(exc: BaseException, words: tuple[str, ...]) -> bool:
    text = str(exc)
    return any(word in text for word in words)


def describe(exc: BaseException, otherwise: ErrorCode) -> ErrorInfo:
    """Return the error that a run ends with; ``otherwise`` is the code of what is not known by name."""
    if is_poison(exc):
        return error(ErrorCode.DEVICE_FAILED, _first_line(exc)).info
    if isinstance(exc, SoundfleetError):
        return exc.info
    if is_out_of_memory(exc):
        return error(ErrorCode.OUT_OF_MEMORY, _first_line(exc)).info
    if isinstance(exc, RuntimeError) and _says(exc, _DEVICE):
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
