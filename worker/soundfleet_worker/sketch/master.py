"""Mastering: levels of the stems, loudness and peak of their sum, fades. All of it is done to the stems."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .instruments import Samples, ramp
from .score import STEMS, Piece

LOUDNESS_DB = -17.0
"""RMS of the mixture, relative to full scale."""
PEAK = 0.89
BLOCK = 1 << 16


def master(piece: Piece, tracks: Mapping[str, Samples]) -> dict[str, Samples]:
    """Return the stems, (2, n) each, whose sum has the target loudness without passing `PEAK`."""
    active = {stem: piece.sung if stem == "vocals" else 1.0 for stem in STEMS}
    stems: dict[str, Samples] = {}
    for stem, level in zip(STEMS, piece.levels_db, strict=True):
        track = tracks[stem]
        gain = 10.0 ** (level / 20.0) * active[stem] ** 0.5 / max(_rms(track), 1e-9)
        track *= np.float32(gain)
        _fade(piece, track)
        stems[stem] = track if len(track) == 2 else np.repeat(track, 2, axis=0)
    mix = mixture(stems)
    peak = float(max(mix.max(), -mix.min(), 1e-9))
    gain = np.float32(min(10.0 ** (LOUDNESS_DB / 20.0) / max(_rms(mix), 1e-9), PEAK / peak))
    for stem in STEMS:
        stems[stem] *= gain
    return stems


def mixture(stems: Mapping[str, Samples]) -> Samples:
    """Return the sum of the stems, (2, n), added in the order of `STEMS`: the mix of a sketch."""
    total = stems[STEMS[0]].copy()
    for stem in STEMS[1:]:
        total += stems[stem]
    return total


def _rms(track: Samples) -> float:
    """Return the root mean square, summed in blocks: a BLAS product would depend on the number of threads."""
    flat = track.reshape(-1)
    blocks = (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))
    return float(np.sqrt(sum(float(np.square(block, dtype=np.float64).sum()) for block in blocks) / max(flat.size, 1)))


def _fade(piece: Piece, track: Samples) -> None:
    fade_in = round(piece.fade_in_sec * piece.sample_rate)
    fade_out = round(piece.fade_out_sec * piece.sample_rate)
    track[:, :fade_in] *= ramp(fade_in)
    track[:, track.shape[1] - fade_out :] *= ramp(fade_out)[::-1]
