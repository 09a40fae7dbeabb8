"""Files in a run's scratch directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from soundfleet_schemas import ErrorCode, SoundfleetError, error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def scratch_full(exc: OSError, path: Path) -> SoundfleetError:
    """Return the error of a scratch directory that takes no more."""
    return error(
        ErrorCode.INTERNAL_ERROR,
        f"cannot write {path}: {exc.strerror or exc}",
        "Free space in the worker's scratch directory, or set SOUNDFLEET_SCRATCH_DIR.",
    )


def reserve(path: Path, channels: int, samples: int) -> NDArray[np.float32]:
    """Create a ``.npy`` of zeros, (channels, samples), memory-mapped, whose space is really there.

    Writing to a mapped file without space would kill the process by SIGBUS; so a full scratch is an error here.
    """
    import numpy as np

    try:
        audio = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(channels, samples))
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as exc:
        raise scratch_full(exc, path) from None
    return audio
