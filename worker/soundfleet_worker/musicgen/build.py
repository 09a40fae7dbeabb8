"""From a checkpoint to a studio, and from a job to what a piece is made from."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from soundfleet_schemas import REFERENCE, SOURCE, ErrorCode, GenerationRequest, error

from ..backends.contract import EngineJob
from .cache import CacheShape
from .codec import Codec
from .conditions import TEXT_TOKENS
from .loading import Checkpoint
from .network import Network
from .pace import Pace
from .piece import Given
from .sampling import settings_of
from .slots import Slots
from .studio import Studio
from .windows import WINDOW_SEC

ALIGNED = 64
"""Positions of the caches come in multiples of it, as the kernels of a GPU want them."""


def studio_of(checkpoint: Checkpoint, pace: Pace | None = None) -> Studio:
    """Put the parts together; the slots are not allocated yet."""
    weights, codec, pattern = checkpoint.weights, checkpoint.codec, checkpoint.pattern
    length = pattern.length(WINDOW_SEC * codec.frame_rate)
    prefix = 0 if checkpoint.melody is None else checkpoint.melody.length + TEXT_TOKENS
    positions = -(-(prefix + length) // ALIGNED) * ALIGNED
    shape = CacheShape(
        layers=len(weights.layers),
        heads=weights.heads_per_layer,
        head_width=weights.width // weights.heads_per_layer,
        positions=positions,
        text=TEXT_TOKENS if checkpoint.melody is None else 0,
        dtype=weights.dtype,
    )
    slots = Slots(shape, pattern, weights.vocabulary, length, weights.device)
    return Studio(Network(weights, positions), slots, codec, checkpoint.melody, pace)


def given_of(job: EngineJob, checkpoint: Checkpoint) -> Given:
    """Encode the prompt and the audio that is continued, and read what else the request says."""
    request, codec = cast(GenerationRequest, job.request), checkpoint.codec
    prompt = checkpoint.text.encode(request.prompt)
    warnings = []
    if prompt.cut:
        warnings.append(f"the prompt is {prompt.cut} tokens longer than the {TEXT_TOKENS} that the model reads")
    if prompt.unknown:
        warnings.append(f"the text encoder does not know {prompt.unknown} parts of the prompt: it was taught English")
    frames = request.duration_sec * codec.frame_rate
    return Given(
        prompt=prompt,
        sampling=settings_of(request),
        seed=request.seed or 0,
        frames=frames,
        source=_source(job, codec, frames, warnings),
        reference=_reference(job, checkpoint),
        warnings=warnings,
    )


def _source(job: EngineJob, codec: Codec, frames: int, warnings: list[str]) -> NDArray[np.float32] | None:
    """Return what the track begins with: the source, its last 30 s at most."""
    audio = _input(job, SOURCE, codec)
    if audio is None:
        return None
    most = WINDOW_SEC * codec.rate
    if audio.shape[1] > most:
        warnings.append(f"the track begins with the last {WINDOW_SEC} s of the source: the model hears no more")
        audio = audio[:, -most:]
    if audio.shape[1] // codec.hop >= frames:
        seconds = audio.shape[1] / codec.rate
        raise error(
            ErrorCode.INVALID_DURATION,
            f"the track begins with {seconds:.1f} s of the source, so {frames / codec.frame_rate:g} s leave no music",
            "Ask for a longer duration_sec, or give a shorter source.",
        )
    return audio


def _reference(job: EngineJob, checkpoint: Checkpoint) -> NDArray[np.float32] | None:
    audio = _input(job, REFERENCE, checkpoint.codec)
    if audio is not None and checkpoint.melody is None:
        raise error(
            ErrorCode.INVALID_OPTION,
            f"{job.spec.backend} follows no melody",
            "Leave reference out, or use a melody checkpoint.",
        )
    return audio


def _input(job: EngineJob, name: str, codec: Codec) -> NDArray[np.float32] | None:
    """Map the audio of that name, (2, samples); AUDIO_EMPTY when it is shorter than a frame."""
    path = job.inputs.get(name)
    if path is None:
        return None
    audio: NDArray[np.float32] = np.load(path, mmap_mode="r")
    if audio.shape[1] < codec.hop:
        raise error(ErrorCode.AUDIO_EMPTY, f"the {name} has {audio.shape[1]} samples")
    return audio
