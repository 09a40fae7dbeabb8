"""How long a job may take, guessed at submission from the length of its audio; queueing is not part of it.

The guess is for a mid-range device and errs on the long side: it is there to choose a waiting time by.
"""

from __future__ import annotations

import math

from soundfleet_schemas import (
    BackendSpec,
    BackendType,
    GenerationRequest,
    JobRequest,
    SeparationRequest,
    UploadSource,
    plan_separation,
)

SEC_PER_AUDIO_SEC: dict[str, float] = {
    BackendType.Sketch: 0.1,
    BackendType.MusicGen: 1.0,
    BackendType.AceStep: 0.2,
    BackendType.Demucs: 0.1,
}
FOREIGN_SEC_PER_AUDIO_SEC = 1.0
BAG_SIZE = {"htdemucs_ft": 4, "mdx": 4, "mdx_extra": 4, "mdx_q": 4, "mdx_extra_q": 4}
"""Models that are several models."""
BYTES_PER_AUDIO_SEC = {".wav": 176_400, ".flac": 100_000}
COMPRESSED_BYTES_PER_AUDIO_SEC = 24_000
TYPICAL_SONG_SEC = 240.0


def estimate_sec(request: JobRequest, spec: BackendSpec) -> int:
    """Return the guess in whole seconds, at least 1."""
    rate = SEC_PER_AUDIO_SEC.get(spec.type, FOREIGN_SEC_PER_AUDIO_SEC)
    if isinstance(request, GenerationRequest):
        return max(1, math.ceil(request.duration_sec * rate))
    passes = max(1, plan_separation(request.options, spec).shifts) * BAG_SIZE.get(spec.backend, 1)
    return max(1, math.ceil(_audio_sec(request) * rate * passes))


def _audio_sec(request: SeparationRequest) -> float:
    source = request.source
    if not isinstance(source, UploadSource):
        return TYPICAL_SONG_SEC
    _, dot, suffix = source.key.rpartition(".")
    return source.size_bytes / BYTES_PER_AUDIO_SEC.get(dot + suffix, COMPRESSED_BYTES_PER_AUDIO_SEC)
