"""What a finished run becomes: the track, how it was made, and what the caller should know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soundfleet_schemas import BackendSpec, ErrorCode, error

from ..backends.contract import Output
from .plan import MAY_BE_SILENT
from .track import NAME

if TYPE_CHECKING:
    from .parts import Parts
    from .song import Song


def output_of(song: Song, parts: Parts, spec: BackendSpec) -> Output:
    """Return the track at its level; raises OUTPUT_SILENT, and MODEL_INFERENCE_FAILED for what is no number."""
    track, song.track = song.track, None
    if track is None:
        raise error(ErrorCode.INTERNAL_ERROR, f"run {song.job.job_id} was finished before it was decoded")
    audio, level, warnings = track.finish(song.plan.song.task in MAY_BE_SILENT)
    parameters = {
        "checkpoint": spec.model_version,
        **song.plan.parameters(),
        "duration_sec": song.plan.samples / parts.sample_rate,
        "precision": str(parts.dtype).removeprefix("torch."),
        "weights": [*parts.weights, *([song.lora.weights] if song.lora else [])],
        **level,
    }
    return Output({NAME: audio}, parts.sample_rate, parameters, song.warnings + tuple(warnings))
