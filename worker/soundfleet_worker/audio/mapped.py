"""Memory-mapping the arrays that cross from process to process, in any thread.

``numpy.load`` reads the header with ``ast.literal_eval``, whose count of the recursion depth threads of CPython 3.11
share: now and then one fails for another's sake. Two threads never parse here at a time.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PARSING = threading.Lock()


def open_mapped(path: Path | str) -> NDArray[np.float32]:
    """Map a ``.npy`` of float32 for reading; raises OSError or ValueError when it is none."""
    with _PARSING:
        audio: NDArray[np.float32] = np.load(path, mmap_mode="r")
    if audio.dtype != np.float32:
        raise ValueError(f"{path} holds {audio.dtype}, not float32")
    return audio
