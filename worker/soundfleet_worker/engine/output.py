"""From a backend's output to ``.npy`` files in the run's scratch directory."""

from __future__ import annotations

import math
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from soundfleet_schemas import ErrorCode, error

from ..backends.scratch import scratch_full
from .wire import OutputFile

if TYPE_CHECKING:
    import numpy as np

    from ..backends.contract import Output


def write_output(output: Output, scratch: Path) -> tuple[OutputFile, ...]:
    """Write every array that is not already memory-mapped there; MODEL_INFERENCE_FAILED for NaN or infinity."""
    return tuple(_write(name, audio, scratch) for name, audio in output.audio.items())


def _write(name: str, audio: np.ndarray, scratch: Path) -> OutputFile:
    import numpy as np

    if audio.ndim != 2 or audio.dtype != np.float32:
        shape = f"{audio.dtype} of shape {audio.shape}"
        raise error(ErrorCode.MODEL_INFERENCE_FAILED, f"output {name} is {shape}, not float32 (channels, samples)")
    # One pass without a temporary: a sum in float64 cannot overflow from finite float32.
    if not math.isfinite(float(np.sum(audio, dtype=np.float64))):
        raise error(ErrorCode.MODEL_INFERENCE_FAILED, f"output {name} holds samples that are not numbers")
    path = scratch / f"{name}.npy"
    if not _lies_there(audio, path):
        try:
            np.save(path, audio)
        except OSError as exc:
            raise scratch_full(exc, path) from None
    return OutputFile(name=name, path=str(path))


def _lies_there(audio: np.ndarray, path: Path) -> bool:
    """Whether the array is the whole of the file, memory-mapped; a view of a part has another base."""
    import numpy as np

    return isinstance(audio, np.memmap) and isinstance(audio.base, mmap) and Path(str(audio.filename)) == path.resolve()
