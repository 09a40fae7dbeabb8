"""The rules of ``validation`` in the words of JSON Schema.

They are not constraints on the structs themselves: decoding would then answer INVALID_MESSAGE where a rule has its own
code. A test holds both to the same borders. Patterns use what every engine has: no look-around, no Unicode classes.
Rules that join fields are in ``conditions``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from .. import music
from ..catalog import CATALOG
from ..enums import Kind
from ..limits import DEFAULT_LIMITS, GUIDANCE_SCALE, INFERENCE_STEPS, MAX_PROMPT_CHARS, MAX_SEED
from ..options import MAX_SHIFTS, MIN_SEGMENT_SEC, MP3_BITRATES_KBPS
from ..sources import BUCKET, KEY, MAX_BUCKET_CHARS, MAX_KEY_BYTES, MAX_NAME_CHARS, MAX_URL_CHARS
from ..validation import VISIBLE

Rules: TypeAlias = dict[str, Any]


def _between(low: float, high: float) -> Rules:
    return {"minimum": low, "maximum": high}


def _whole(pattern: str) -> Rules:
    """A pattern for the whole text; in some engines ``$`` also stands before a last line feed."""
    return {"pattern": f"^{pattern}$", "not": {"pattern": "\\n"}}


def _names(kind: Kind) -> list[str]:
    return [spec.backend for spec in CATALOG.values() if spec.kind is kind]


_ID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_UUID: Rules = {"format": "uuid", **_whole(_ID)}
_SHA256 = _whole("[0-9a-f]{64}")
_ADDRESS = "[hH][tT][tT][pP][sS]?://[^\\s/?#@]+([/?#]\\S*)?"
_URL: Rules = {**_whole(_ADDRESS), "maxLength": MAX_URL_CHARS}
_TYPED: Rules = {
    "pattern": f"^\\s*({_ADDRESS}|[sS]3://{BUCKET}/[\\s\\S]*\\S|job:{_ID}(#[a-z0-9_]{{1,64}})?)\\s*$",
    "maxLength": MAX_URL_CHARS,
}
"""What people type, but for local paths, which mean nothing to a worker."""
_TIME: Rules = {"format": "date-time"}
_ZONED: Rules = {**_TIME, **_whole("[^\\n]+[Tt ][^\\n]+([Zz]|[+-][0-9]{2}:[0-9]{2})")}
_SCORE = _between(0, 1)
_PERCENT = _between(0, 100)
_COUNT: Rules = {"minimum": 0}
_SEED = _between(0, MAX_SEED)

_ENVELOPE: dict[str, Rules] = {
    "id": _UUID,
    "client": _whole("[A-Za-z0-9._:@-]{1,128}"),
    "expires_at": _ZONED,
    "time_limit_sec": _between(1, DEFAULT_LIMITS.long_run_sec),
    "retried_from": _UUID,
    "schema_version": {"const": 1},
}

RANGES: dict[str, dict[str, Rules]] = {
    "GenerationRequest": {
        **_ENVELOPE,
        "prompt": {"minLength": 1, "maxLength": MAX_PROMPT_CHARS, "pattern": VISIBLE.pattern},
        "backend": {"minLength": 1, "not": {"enum": _names(Kind.separate)}},
        "duration_sec": {"minimum": 1},
        "seed": _SEED,
        "inference_steps": _between(*INFERENCE_STEPS),
        "guidance_scale": _between(*GUIDANCE_SCALE),
        "bitrate_kbps": {"enum": [*MP3_BITRATES_KBPS]},
        "source": _TYPED,
        "reference": _TYPED,
    },
    "SamplingOptions": {
        "guidance": _between(*music.GUIDANCE),
        "top_k": _between(0, music.MAX_TOP_K),
        "top_p": _between(0, 1),
        "temperature": _between(*music.TEMPERATURE),
    },
    "SongOptions": {
        "lyrics": {"maxLength": music.MAX_LYRICS_CHARS},
        "language": _whole(f"({music.LANGUAGE})"),
        "bpm": _between(*music.BPM),
        "key": _whole(music.KEY),
        "time_signature": _whole(f"({'|'.join(music.TIME_SIGNATURES)})"),
        "shift": _between(*music.SHIFT),
        "cover_strength": _between(0, 1),
        "lora": _whole(music.NAME),
        "lora_scale": _between(*music.LORA_SCALE),
        "tracks": {"items": {"enum": [*music.TRACKS]}},
        "repaint_start_sec": {"minimum": 0},
        "repaint_end_sec": {"minimum": 0},
    },
    "SeparationRequest": {**_ENVELOPE, "source": _TYPED},
    "StemSeparationOptions": {
        "model": {"minLength": 1, "not": {"enum": _names(Kind.generate)}},
        "segment_duration": {"minimum": MIN_SEGMENT_SEC},
        "overlap_duration": {"minimum": 0},
        "shifts": _between(0, MAX_SHIFTS),
        "seed": _SEED,
        "bitrate_kbps": {"enum": [*MP3_BITRATES_KBPS]},
        "stems": {"minItems": 1, "uniqueItems": True},
    },
    "UploadSource": {
        "key": _whole("uploads/[0-9a-f]{64}(\\.[A-Za-z0-9]{1,16})?"),
        "sha256": _SHA256,
        "size_bytes": _between(1, DEFAULT_LIMITS.max_file_bytes),
        "filename": {"maxLength": MAX_NAME_CHARS},
    },
    "S3Source": {
        "bucket": {**_whole(BUCKET), "maxLength": MAX_BUCKET_CHARS},
        "key": {"pattern": f"^{KEY}$", "maxLength": MAX_KEY_BYTES, "not": {"pattern": "\\n|(^|/)\\.\\.(/|$)"}},
    },
    "UrlSource": {"url": _URL},
    "YouTubeSource": {"url": _URL},
    "JobSource": {"job_id": _UUID, "stem": _whole("[a-z0-9_]{1,64}")},
    "ProgressUpdate": {"percent": _PERCENT, "current_step": _COUNT, "total_steps": _COUNT, "eta_sec": _COUNT},
    "JobEvent": {"job_id": _UUID, "at_ms": _COUNT, "attempt": _COUNT},
    "Job": {
        "id": _UUID,
        "progress": _PERCENT,
        "attempt": _COUNT,
        "crashes": _COUNT,
        "ahead": _COUNT,
        **dict.fromkeys(("created_at", "updated_at", "started_at", "finished_at", "retry_at"), _TIME),
    },
    "JobResult": {"job_id": _UUID, "attempt": _COUNT, "processing_time": _COUNT, "file_size": _COUNT},
    "QualityMetrics": dict.fromkeys(
        ("overall_score", "vocal_isolation", "drum_separation", "bass_isolation", "artifact_reduction"), _SCORE
    ),
    "ProcessingMetrics": dict.fromkeys(
        ("processing_time", "cpu_usage", "memory_usage", "model_load_time", "input_file_size"), _COUNT
    ),
    "Track": {"id": _SHA256, "seed": _SEED, "created_at": _TIME},
    "AudioFile": {"size": _COUNT, "duration": _COUNT, "sample_rate": {"minimum": 1}},
    "StemInfo": {"size": _COUNT, "duration": _COUNT, "sample_rate": {"minimum": 1}},
    "WorkerInfo": {"started_at": _TIME, "seen_at": _TIME, "capacity": _COUNT},
    "JobStatusResponse": {"progress": _PERCENT, "createdAt": _TIME, "updatedAt": _TIME},
    "DeadLetter": {"attempts": _COUNT, "crashes": _COUNT, "at_ms": _COUNT},
}
"""By struct and field. A rule lands on the branch of its type: numbers, strings or arrays."""

REQUIRED: dict[str, tuple[str, ...]] = {"GenerationRequest": ("id",), "SeparationRequest": ("id",)}
"""What the library fills in and a publisher in another language must write itself."""
