"""Audio that is read in parts and never copied whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from .spectra import Audio


class Sound:
    """An array of (channels, n), divided by a gain; or, given a mix, all of the mix but that.

    It is as long as ``samples``: what is longer is cut, what is shorter ends in silence.
    """

    def __init__(self, array: Audio, samples: int, gain: float = 1.0, mix: Audio | None = None) -> None:
        self._array, self._gain, self._mix = array, np.float32(gain), mix
        self.shape = (array.shape[0], samples)

    def __getitem__(self, part: Any) -> Audio:
        """Read a part, given as (anything, slice of samples)."""
        start, stop, _ = part[-1].indices(self.shape[1])
        block = np.zeros((self.shape[0], stop - start), dtype=np.float32)
        held = self._array[:, start:stop]
        np.divide(held, self._gain, out=block[:, : held.shape[1]])
        return block if self._mix is None else self._mix[:, start:stop] - block
