"""The fingerprint: SHA-256 of everything that decides the bytes of the output, and of nothing else.

Equal fingerprints mean equal output, so finished work can answer. A generation's fingerprint is its track id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from .base import SCHEMA_VERSION
from .music import SamplingOptions, SongOptions
from .options import plan_output, plan_separation
from .requests import SOURCE, GenerationRequest, JobRequest, sources_of
from .sources import UploadSource
from .spec import BackendSpec

_ENCODER = msgspec.json.Encoder(order="deterministic")


def fingerprint(request: JobRequest, spec: BackendSpec, audio: Mapping[str, str] | None = None) -> str | None:
    """Return 64 hex digits, or None while the output is not determined yet.

    A generation needs its seed. Every source that a request names needs the SHA-256 of its file: an upload carries it,
    any other has it once a worker has fetched the file (``audio``, by the source's name). What was left out counts as
    the value that stands in for it, so spelling a default out changes nothing.
    """
    fields: dict[str, Any]
    hashes = _hashes(request, audio or {})
    if hashes is None:
        return None
    if isinstance(request, GenerationRequest):
        if request.seed is None:
            return None
        fields = {
            "prompt": request.prompt,
            "seed": request.seed,
            "duration_sec": request.duration_sec,
            "inference_steps": request.inference_steps or spec.default_inference_steps,
            "scheduler": request.scheduler or spec.default_scheduler,
            "guidance_scale": float(request.guidance_scale or spec.default_guidance_scale or 0.0),
            "output": plan_output(request.output_format, request.bit_depth, request.bitrate_kbps),
        }
        # What says nothing beyond the defaults is left out: such requests had a fingerprint before there were options.
        if request.sampling is not None and request.sampling != SamplingOptions():
            fields["sampling"] = request.sampling
        if request.song is not None and request.song != SongOptions():
            fields["song"] = request.song
        if hashes:
            fields["audio"] = hashes
    else:
        options = request.options
        fields = {
            "audio": hashes.pop(SOURCE),
            "plan": plan_separation(options, spec),
            "output": plan_output(options.output_format, options.bit_depth, options.bitrate_kbps),
        }
        if hashes:
            fields["references"] = hashes
        if options.keep_sample_rate:  # only then: such requests had a fingerprint before there was the option
            fields["keep_sample_rate"] = True
    fields |= {"schema_version": SCHEMA_VERSION, "backend": spec.backend, "model_version": spec.model_version}
    return hashlib.sha256(_ENCODER.encode(fields)).hexdigest()


def _hashes(request: JobRequest, audio: Mapping[str, str]) -> dict[str, str] | None:
    """The SHA-256 of every source by its name; None while one is not known."""
    hashes = {}
    for name, source in sources_of(request).items():
        sha256 = source.sha256 if isinstance(source, UploadSource) else audio.get(name)
        if sha256 is None:
            return None
        hashes[name] = sha256
    return hashes
