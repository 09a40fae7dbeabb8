"""What a refused document means: each field has its own error code, whatever is wrong with its value."""

from __future__ import annotations

import re
from enum import StrEnum

from .enums import BitDepth, InputType, Kind, OutputFormat, Priority, Quality, SchedulerType
from .errors import ErrorCode, SoundfleetError, error

_CODES: dict[str, ErrorCode] = {
    "id": ErrorCode.INVALID_JOB_ID,
    "retried_from": ErrorCode.INVALID_JOB_ID,
    "prompt": ErrorCode.INVALID_PROMPT,
    "duration_sec": ErrorCode.INVALID_DURATION,
    "backend": ErrorCode.INVALID_BACKEND,
    "seed": ErrorCode.INVALID_SEED,
    "options.seed": ErrorCode.INVALID_SEED,
    "inference_steps": ErrorCode.INVALID_INFERENCE_STEPS,
    "scheduler": ErrorCode.INVALID_SCHEDULER,
    "guidance_scale": ErrorCode.INVALID_GUIDANCE_SCALE,
    "options.model": ErrorCode.INVALID_MODEL,
    "source": ErrorCode.INVALID_SOURCE,
    "reference": ErrorCode.INVALID_SOURCE,
    "references": ErrorCode.INVALID_SOURCE,
}
"""Codes of fields by path. A part of a source is the source's; every other field is an option."""

_WORDS: dict[str, type[StrEnum]] = {
    "kind": Kind,
    "type": InputType,
    "priority": Priority,
    "scheduler": SchedulerType,
    "output_format": OutputFormat,
    "bit_depth": BitDepth,
    "quality": Quality,
}
_WHOLE_MESSAGE = frozenset({"", "kind", "schema_version"})
_PATH = re.compile(r"(?P<what>.*) - at `\$\.?(?P<path>[^`]*)`", re.DOTALL)
_UNKNOWN_FIELD = "Object contains unknown field"


def refused(exc: Exception) -> SoundfleetError:
    """Turn what msgspec says of a document into the error of the field that it names."""
    match = _PATH.fullmatch(str(exc))
    path = match["path"].partition("[")[0] if match else ""
    what = match["what"] if match else str(exc)
    message = f"{path}: {_plain(what)}" if path else _plain(what)
    if what.startswith(_UNKNOWN_FIELD):
        return error(ErrorCode.INVALID_MESSAGE, f"not a request: {message}")
    words = _WORDS.get(path.rpartition(".")[2])
    if words is not None:
        message += f"; it takes {', '.join(words)}"
    if path in _WHOLE_MESSAGE:
        return error(ErrorCode.INVALID_MESSAGE, f"not a request: {message}")
    return error(code_of(path), message)


def code_of(path: str) -> ErrorCode:
    """Return the code of a field, named by its path in the message."""
    if path.startswith(("source.", "reference.", "references.")):
        return ErrorCode.INVALID_SOURCE
    return _CODES.get(path, ErrorCode.INVALID_OPTION)


def _plain(what: str) -> str:
    """Unquote msgspec's type names and shorten what it quotes of the document."""
    what = what.replace("`", "")
    return what if len(what) <= 120 else f"{what[:119]}…"
