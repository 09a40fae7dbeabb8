"""What is said of a piece that is done: its level, its effective parameters, its warnings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from soundfleet_schemas import ErrorCode, GenerationRequest, error

from ..backends.contract import Output
from ..backends.no_numbers import no_numbers
from .piece import Piece

FULL = 10 ** (-1 / 20)
"""To which a track that goes beyond full scale is turned down: -1 dBFS."""
SILENT = 1e-3
"""A peak below this, -60 dBFS, is no music."""
BLOCK = 1 << 20


def output_of(piece: Piece, rate: int, checkpoint: dict[str, Any]) -> Output:
    """Judge a piece's audio; raises OUTPUT_SILENT, and MODEL_INFERENCE_FAILED for what is no number."""
    if piece.broken or piece.audio is None:
        done = f"{piece.current_step} of {piece.total_steps} steps"
        raise no_numbers(f"the model gave something that is no number after {done}")
    audio, warnings = piece.audio, list(piece.given.warnings)
    peak = _peak(audio)
    if not math.isfinite(peak):
        raise no_numbers("the track holds samples that are not numbers")
    if peak < SILENT:
        level = f"{20 * math.log10(peak):.0f} dBFS" if peak else "minus infinity"
        raise error(ErrorCode.OUTPUT_SILENT, f"the track is silent: its peak is {level}")
    gain = 1.0
    if peak > 1.0:
        gain = FULL / peak
        audio *= np.float32(gain)
        warnings.append(f"the model's output clipped: its peak of {20 * math.log10(peak):+.1f} dBFS was turned down")
    return Output({"track": audio}, rate, {**_parameters(piece, rate), **checkpoint, "gain": gain}, tuple(warnings))


def _parameters(piece: Piece, rate: int) -> dict[str, Any]:
    """The effective ones, as they acted."""
    request, sampling = piece.job.request, piece.given.sampling
    assert isinstance(request, GenerationRequest)
    source = piece.given.source
    return {
        "prompt": request.prompt,
        "seed": piece.given.seed,
        "duration_sec": request.duration_sec,
        "guidance": sampling.guidance,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "temperature": 0.0 if sampling.greedy else sampling.temperature,
        "windows": len(piece.windows),
        "continued_sec": 0.0 if source is None else round(source.shape[1] / rate, 2),
        "melody": piece.given.reference is not None,
    }


def _peak(audio: np.ndarray) -> float:
    """The largest absolute value; not a number when any is not."""
    peak = 0.0
    for start in range(0, audio.shape[1], BLOCK):
        block = float(np.abs(audio[:, start : start + BLOCK]).max())
        if math.isnan(block):
            return block
        peak = max(peak, block)
    return peak
