"""Mapping arrays in many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from soundfleet_worker.audio.mapped import open_mapped


def test_many_threads_map_arrays_at_the_same_time(tmp_path: Path) -> None:
    """NumPy's own reader now and then fails there, on CPython 3.11: a job was charged for it."""
    audio = np.ones((2, 100), dtype=np.float32)
    np.save(tmp_path / "a.npy", audio)
    with ThreadPoolExecutor(8) as threads:
        sums = threads.map(lambda _: float(open_mapped(tmp_path / "a.npy").sum()), range(4000))
        assert set(sums) == {200.0}


def test_what_is_no_float32_is_refused(tmp_path: Path) -> None:
    """Only audio crosses from process to process."""
    np.save(tmp_path / "a.npy", np.ones((2, 100)))
    with pytest.raises(ValueError, match="float64"):
        open_mapped(tmp_path / "a.npy")
