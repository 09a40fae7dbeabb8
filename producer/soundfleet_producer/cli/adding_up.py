"""Whether stems add up to the audio they were taken from; needs the worker extra, for decoding."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from soundfleet_schemas import Limits

FLOOR_DB = -200.0


def difference_db(source: Path, stems: Sequence[Path], sample_rate: int, scratch: Path) -> float:
    """Level of source minus the sum of its stems, relative to the source, in dB; -200 stands for nothing at all."""
    numpy = importlib.import_module("numpy")
    mix = _decoded(source, sample_rate, scratch)
    rest = mix.astype("float64")
    for stem in stems:
        part = _decoded(stem, sample_rate, scratch)
        rest -= part[:, : rest.shape[1]]
    power = float(numpy.mean(mix.astype("float64") ** 2))
    left = float(numpy.mean(rest**2))
    return max(FLOOR_DB, 10 * math.log10(left / power)) if left > 0 < power else FLOOR_DB


def _decoded(path: Path, sample_rate: int, scratch: Path) -> Any:
    """Float32 of shape (2, samples)."""
    decode = importlib.import_module("soundfleet_worker.audio.decode").decode
    array = scratch / f"{path.stem}.npy"
    decode(path, array, sample_rate, Limits())
    return importlib.import_module("numpy").load(array)
