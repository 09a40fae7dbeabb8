"""From what a caller asks to what is queued: complete it, check it, upload its file, take its fingerprint.

All of it is a pure function of the request and the settings, so that submitting the same request again is the same
message, byte for byte, and creates nothing new.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from soundfleet_schemas import (
    CATALOG,
    BackendSpec,
    BackendType,
    ErrorCode,
    GenerationRequest,
    JobRequest,
    LocalFile,
    SeparationRequest,
    UploadSource,
    error,
    fingerprint,
    parse_source,
    validate,
)

from .estimate import estimate_sec
from .queue.verbs import Draft
from .settings import Settings

SEED_BITS = 53
"""Seeds that are drawn here stay exact in every JSON reader, whose numbers may be doubles."""
_STAND_IN = UploadSource(key="uploads/" + 64 * "0", sha256=64 * "0", size_bytes=1)
"""Takes the place of a local file while the rest of the request is checked, before anything is uploaded."""


class Checked(NamedTuple):
    """A complete, valid request; ``upload`` is the local file that its source still is."""

    request: JobRequest
    spec: BackendSpec
    upload: Path | None


@contextmanager
def preparing() -> Iterator[None]:
    """Type what a request and its file may raise on their way to a draft: INVALID_MESSAGE, INVALID_SOURCE."""
    try:
        yield
    except UnicodeError as exc:
        raise error(ErrorCode.INVALID_MESSAGE, f"the request holds what is no text: {exc}") from exc
    except OSError as exc:
        raise error(ErrorCode.INVALID_SOURCE, f"the file cannot be read: {exc}", "Look at its disk.") from exc


def check(request: JobRequest, settings: Settings, foreign: Mapping[str, BackendSpec]) -> Checked:
    """Fill in what the request leaves open and check it; raises the typed error of the first broken rule."""
    upload = None
    if isinstance(request, GenerationRequest):
        request = _complete_generation(request, settings, foreign)
    elif isinstance(request, SeparationRequest):
        request, upload = _complete_separation(request, settings)
    else:
        raise error(ErrorCode.INVALID_MESSAGE, f"a {type(request).__name__} is not a request")
    catalog = {**CATALOG, **foreign} if foreign else CATALOG
    return Checked(request, validate(request, settings.limits, catalog), upload)


def finish(checked: Checked, stored: UploadSource | None) -> Draft:
    """The draft of a checked request, its upload put in."""
    request, spec = checked.request, checked.spec
    if stored is not None:
        request = msgspec.structs.replace(request, source=stored)
    return Draft(request, fingerprint(request, spec), estimate_sec(request, spec))


def _complete_generation(
    request: GenerationRequest, settings: Settings, foreign: Mapping[str, BackendSpec]
) -> GenerationRequest:
    name = settings.default_backend if request.backend is None else request.backend
    changes: dict[str, Any] = {}
    if request.backend is None:
        changes["backend"] = name
    if request.seed is None:
        changes["seed"] = seed_of(request.id)
    if request.client is None and settings.client is not None:
        changes["client"] = settings.client
    spec = CATALOG.get(name) or foreign.get(name)
    if spec is not None and spec.type == BackendType.AceStep:
        if request.inference_steps is None:
            changes["inference_steps"] = settings.ace_step_default_steps
        if request.scheduler is None:
            changes["scheduler"] = settings.ace_step_default_scheduler
        if request.guidance_scale is None:
            changes["guidance_scale"] = settings.ace_step_default_guidance
    return msgspec.structs.replace(request, **changes) if changes else request


def _complete_separation(request: SeparationRequest, settings: Settings) -> tuple[SeparationRequest, Path | None]:
    changes: dict[str, Any] = {}
    upload = None
    source: Any = request.source
    if isinstance(source, os.PathLike):
        source = LocalFile(path=os.fspath(source))
    elif isinstance(source, str):
        source = parse_source(source)
    if isinstance(source, LocalFile):
        upload = _path_of(source)
        source = _STAND_IN
    if source is not request.source:
        changes["source"] = source
    if request.client is None and settings.client is not None:
        changes["client"] = settings.client
    return (msgspec.structs.replace(request, **changes) if changes else request), upload


def _path_of(source: LocalFile) -> Path:
    try:
        return Path(source.path).expanduser()
    except RuntimeError:  # "~name" of nobody's home
        return Path(source.path)


def seed_of(job_id: str) -> int:
    """The seed of a generation that names none: as good as random, and the same whenever the job is submitted again."""
    return int.from_bytes(hashlib.sha256(str(job_id).encode()).digest()[:8], "big") >> (64 - SEED_BITS)
