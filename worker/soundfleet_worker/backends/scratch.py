"""Files in a run's scratch directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from soundfleet_schemas import ErrorCode, SoundfleetError, error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def is_full(exc: BaseException) -> bool:
    """Whether a file could not be written for want of space; also FFmpeg's error, and NumPy's, which has no number."""
    if getattr(exc, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    return type(exc) is OSError and exc.errno is None and "requested and" in str(exc)


def scratch_full(exc: BaseException) -> SoundfleetError:
    """Return the error of a scratch directory that cannot be written; no path of the machine is told."""
    if is_full(exc):
        return error(ErrorCode.SCRATCH_FULL, "the worker's scratch directory has no space left")
    reason = (exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__
    return error(
        ErrorCode.INTERNAL_ERROR,
        f"the worker's scratch directory cannot be written: {reason}",
        "Check the worker's scratch directory, or set SOUNDFLEET_SCRATCH_DIR.",
    )


def reserve(path: Path, channels: int, samples: int) -> NDArray[np.float32]:
    """Create a ``.npy`` of zeros, (channels, samples), memory-mapped, whose space is really there; its folder, too.

    Writing to a mapped file without space would kill the process by SIGBUS; so a full scratch is an error here.
    """
    import numpy as np

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # a run without input has no scratch yet
        audio = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(channels, samples))
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as exc:
        raise scratch_full(exc) from None
    return audio
