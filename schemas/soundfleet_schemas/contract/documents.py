"""One JSON Schema (2020-12) per message, complete in itself."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..api import JobStatusResponse, StemifyRequest, StemifyResponse
from ..base import SCHEMA_VERSION
from ..errors import ErrorInfo
from ..jobs import DeadLetter, Job, JobEvent, ProgressUpdate, WorkerInfo
from ..requests import GenerationRequest, SeparationRequest
from ..results import JobResult
from ..spec import Backend, BackendSpec
from .conditions import CONDITIONS
from .ranges import RANGES, REQUIRED, Rules

MESSAGES: dict[str, type[msgspec.Struct]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", message.__name__).lower(): message
    for message in (
        GenerationRequest,
        SeparationRequest,
        Job,
        JobEvent,
        JobResult,
        ProgressUpdate,
        DeadLetter,
        WorkerInfo,
        Backend,
        BackendSpec,
        ErrorInfo,
        StemifyRequest,
        StemifyResponse,
        JobStatusResponse,
    )
}
"""Every message that leaves a process, by the stem of its file name."""

_NUMBERS = frozenset({"minimum", "maximum", "const", "enum"})
_ARRAYS = frozenset({"items", "minItems", "uniqueItems"})


def documents() -> dict[str, dict[str, Any]]:
    """Return every message's JSON Schema by the stem of its file name."""
    return {stem: _document(stem, message) for stem, message in MESSAGES.items()}


def _document(stem: str, message: type[msgspec.Struct]) -> dict[str, Any]:
    (reference,), definitions = msgspec.json.schema_components([message], ref_template="#/$defs/{name}")
    for name, definition in definitions.items():
        _constrain(name, definition)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:soundfleet:schema:{SCHEMA_VERSION}:{stem}",
        **reference,
        "$defs": dict(sorted(definitions.items())),
    }


def _constrain(name: str, definition: dict[str, Any]) -> None:
    if "description" in definition:
        definition["description"] = " ".join(definition["description"].split())
    for field, rules in RANGES.get(name, {}).items():
        _apply(definition["properties"][field], rules)
    if name in REQUIRED:
        definition["required"] = sorted({*definition["required"], *REQUIRED[name]})
    if name in CONDITIONS:
        definition["allOf"] = CONDITIONS[name]


def _apply(schema: dict[str, Any], rules: Rules) -> None:
    """Put rules on a field's schema, or on the branches of it that have the rules' type."""
    wanted = _types_of(rules)
    branches = [branch for branch in schema.get("anyOf", [schema]) if branch.get("type") in wanted]
    if not branches:
        raise LookupError(f"no branch of {schema} takes {rules}")
    for branch in branches:
        branch.update(rules)


def _types_of(rules: Rules) -> tuple[str, ...]:
    names = set(rules)
    if names & _NUMBERS:
        return ("integer", "number")
    return ("array",) if names & _ARRAYS else ("string",)
