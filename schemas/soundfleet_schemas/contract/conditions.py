"""The rules of ``validation`` that join fields, as JSON Schema's ``if`` and ``then``, by struct."""

from __future__ import annotations

from ..catalog import CATALOG
from ..enums import BackendType, BitDepth, Kind, OutputFormat, Quality
from ..options import MAX_OVERLAP, PRESETS
from ..requests import REFERENCE, SOURCE
from .ranges import Rules

_NULL: Rules = {"type": "null"}


def _when(field: str, value: Rules, then: dict[str, Rules], *, or_absent: bool = False) -> Rules:
    condition: Rules = {"properties": {field: value}}
    if not or_absent:
        condition["required"] = [field]
    return {"if": condition, "then": {"properties": then}}


def _output() -> list[Rules]:
    lossless = [word for word in OutputFormat if word is not OutputFormat.mp3]
    integers = [None, *(str(depth) for depth in BitDepth if depth is not BitDepth.float32)]
    return [
        _when("output_format", {"const": "mp3"}, {"bit_depth": _NULL}),
        _when("output_format", {"enum": [*map(str, lossless)]}, {"bitrate_kbps": _NULL}, or_absent=True),
        _when("output_format", {"const": "flac"}, {"bit_depth": {"enum": integers}}),
    ]


def _per_backend() -> list[Rules]:
    """Of the project's own backends; foreign ones bring their own."""
    rules = [_when("backend", _NULL, {"duration_sec": {"minimum": 5, "maximum": 240}}, or_absent=True)]
    for spec in CATALOG.values():
        if spec.kind is not Kind.generate:
            continue
        then: dict[str, Rules] = {"duration_sec": {"minimum": spec.min_duration_sec, "maximum": spec.max_duration_sec}}
        if spec.default_inference_steps is None:
            then |= dict.fromkeys(("inference_steps", "scheduler", "guidance_scale"), _NULL)
        if spec.type != BackendType.MusicGen:
            then["sampling"] = _NULL
        if spec.type != BackendType.AceStep:
            then["song"] = _NULL
        then |= dict.fromkeys(sorted({SOURCE, REFERENCE}.difference(spec.inputs)), _NULL)
        rules.append(_when("backend", {"const": spec.backend}, then))
    return rules


def _per_model() -> list[Rules]:
    """The stems and the longest segment of each of the project's models, and of the presets'."""
    rules = []
    for spec in CATALOG.values():
        if spec.kind is not Kind.separate or spec.segment_sec is None:
            continue
        then: dict[str, Rules] = {
            "stems": {"items": {"enum": list(spec.stems)}},
            "two_stems": {"enum": [None, *spec.stems]},
            "segment_duration": {"maximum": spec.segment_sec},
            "overlap_duration": {"maximum": MAX_OVERLAP * spec.segment_sec},
        }
        rules.append(_when("model", {"const": spec.backend}, then))
        for quality, preset in PRESETS.items():
            if preset.model == spec.backend:
                rules.append(_of_preset(quality, then))
    return rules


def _of_preset(quality: Quality, then: dict[str, Rules]) -> Rules:
    """For options that name no model."""
    condition: Rules = {"properties": {"model": _NULL, "quality": {"const": str(quality)}}}
    if quality is not Quality.balanced:
        condition["required"] = ["quality"]
    return {"if": condition, "then": {"properties": then}}


def _shifts() -> list[Rules]:
    unshifted = [str(quality) for quality, preset in PRESETS.items() if not preset.shifts]
    none_asked: Rules = {"properties": {"shifts": {"const": 0}}, "required": ["shifts"]}
    none_preset: Rules = {
        "properties": {"shifts": _NULL, "quality": {"enum": unshifted}},
        "required": ["quality"],
    }
    return [{"if": {"anyOf": [none_asked, none_preset]}, "then": {"properties": {"seed": {"const": 0}}}}]


CONDITIONS: dict[str, list[Rules]] = {
    "GenerationRequest": [*_per_backend(), *_output()],
    "StemSeparationOptions": [
        *_output(),
        *_per_model(),
        _when("remove_vocals", {"const": True}, {"stems": _NULL, "two_stems": _NULL}),
        _when("two_stems", {"type": "string"}, {"stems": _NULL}),
        *_shifts(),
    ],
}
