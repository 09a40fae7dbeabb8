"""From the signs of distortion to an estimated SI-SDR, by a polynomial of second order that was fitted once.

``calibrate`` fitted it: to sketches whose true stems are known, separated by htdemucs_mini and then made better and
worse in a dozen ways.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from soundfleet_schemas import Record

VERSION = "estimate-1"
FILE = Path(__file__).with_name(f"{VERSION}.json")
LOWEST_DB, HIGHEST_DB = -3.0, 20.0
"""What was fitted to; beyond it nothing is claimed."""
WIDEST = 2.5
"""Standard deviations beyond which a sign says no more: songs that are unlike every sketch."""


class Calibration(Record, frozen=True, kw_only=True):
    """The fitted polynomial; ``signs`` are standardised by mean and deviation."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    si_sdr_db: tuple[float, ...]
    """Weights of the terms, for the SI-SDR."""
    artifact_db: tuple[float, ...]
    """Weights of the terms, for the level of artifacts below the stem."""


def terms(signs: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the terms of the polynomial: every sign, every product of two, and one."""
    z = np.clip((signs - mean) / deviation, -WIDEST, WIDEST)
    first, second = np.triu_indices(len(z))
    return np.concatenate([z, z[first] * z[second], [1.0]])


def estimate_db(signs: NDArray[np.float64]) -> tuple[float, float]:
    """Return the estimated SI-SDR of a stem, and how far artifacts lie below it, in dB."""
    fitted = _calibration()
    row = terms(signs, np.array(fitted.mean), np.array(fitted.deviation))
    si_sdr_db, artifact_db = row @ np.array(fitted.si_sdr_db), row @ np.array(fitted.artifact_db)
    return float(np.clip(si_sdr_db, LOWEST_DB, HIGHEST_DB)), float(max(artifact_db, si_sdr_db, LOWEST_DB))


@cache
def _calibration() -> Calibration:
    return msgspec.json.decode(FILE.read_bytes(), type=Calibration)
