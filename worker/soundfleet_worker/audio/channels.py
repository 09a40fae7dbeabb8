"""From any channel layout to mono or stereo."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_HALF_POWER = math.sqrt(0.5)
_LEFT: dict[str, float] = {
    "FL": 1.0, "FR": 0.0, "FC": _HALF_POWER, "LFE": 0.0,
    "BL": _HALF_POWER, "BR": 0.0, "SL": _HALF_POWER, "SR": 0.0, "BC": 0.5,
    "FLC": 1.0, "FRC": 0.0, "DL": 1.0, "DR": 0.0,
}  # fmt: skip
"""Share of each channel in the left one, after ITU-R BS.775-3, annex 4: -3 dB for centre and surrounds, no LFE."""
_MIRROR = str.maketrans("LR", "RL")

_USUAL: dict[int, tuple[str, ...]] = {
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""The order in which WAV and FLAC store channels whose places are not named."""


def downmix(audio: Samples, names: tuple[str, ...]) -> Samples:
    """Mix (channels, n) to (2, n); one and two channels stay as they are.

    Levels are not scaled down: float samples may exceed full scale, and a quiet film stays as loud as it was.
    """
    if audio.shape[0] <= 2:
        return audio
    return _matrix(audio.shape[0], names) @ audio


@cache
def _matrix(channels: int, names: tuple[str, ...]) -> Samples:
    """Shape (2, channels)."""
    if len(names) != channels or not set(names) <= set(_LEFT):
        names = _USUAL[channels]
    left = [_LEFT[name] for name in names]
    right = [_LEFT[name if name == "LFE" else name.translate(_MIRROR)] for name in names]
    return np.array([left, right], dtype=np.float32)
