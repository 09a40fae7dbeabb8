"""From a run that is done to ``.npy`` files in its scratch directory, and the message that names them."""

from __future__ import annotations

import math
import resource
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from soundfleet_schemas import ErrorCode, error

from ..backends.scratch import scratch_full
from .wire import Finished, OutputFile

if TYPE_CHECKING:
    import numpy as np

    from ..backends.contract import Model, Output, Run
    from .service import Ticket


def collect(model: Model, run: Run, ticket: Ticket, infer_sec: float) -> Finished:
    """Finish the ticket's run and write what it made; raises what the backend does, or what ``write_output`` does."""
    output = model.finish(run)
    return Finished(
        run=ticket.name,
        outputs=write_output(output, ticket.job.scratch),
        sample_rate=output.sample_rate,
        parameters=dict(output.parameters),
        warnings=output.warnings,
        load_sec=ticket.load_sec,
        infer_sec=infer_sec,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )


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
            scratch.mkdir(mode=0o700, exist_ok=True)  # a run without input has none yet
            np.save(path, audio)
        except OSError as exc:
            raise scratch_full(exc) from None
    return OutputFile(name=name, path=str(path))


def _lies_there(audio: np.ndarray, path: Path) -> bool:
    """Whether the array is the whole of the file, memory-mapped; a view of a part has another base."""
    import numpy as np

    return isinstance(audio, np.memmap) and isinstance(audio.base, mmap) and Path(str(audio.filename)) == path.resolve()
