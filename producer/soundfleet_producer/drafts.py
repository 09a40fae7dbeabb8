"""From what a caller asks to what is queued: complete it, check it, upload its files, take its fingerprint.

All of it is a pure function of the request and the settings, so that submitting the same request again is the same
message, byte for byte, and creates nothing new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    sources_of,
    validate,
    with_sources,
)

from .estimate import estimate_sec
from .queue.verbs import Draft
from .settings import Settings
from .uploads import Upload, is_upload

SEED_BITS = 53
"""Seeds that are drawn here stay exact in every JSON reader, whose numbers may be doubles."""
_STAND_IN = UploadSource(key="uploads/" + 64 * "0", sha256=64 * "0", size_bytes=1)
"""Takes the place of a local file while the rest of the request is checked, before anything is uploaded."""


class Checked(NamedTuple):
    """A complete, valid request."""

    request: JobRequest
    spec: BackendSpec
    uploads: Mapping[str, Upload | LocalFile]
    """What must be uploaded first, by the name of the source that it is (see ``sources_of``)."""


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
    """Fill in what the request leaves open and check it; raises the typed error of the first broken rule.

    A source may be what ``uploads.is_upload`` knows, although no message can carry it: bytes or a file object.
    """
    if not isinstance(request, GenerationRequest | SeparationRequest):
        raise error(ErrorCode.INVALID_MESSAGE, f"a {type(request).__name__} is not a request")
    if isinstance(request, GenerationRequest):
        request = _complete_generation(request, settings, foreign)
    if request.client is None and settings.client is not None:
        request = msgspec.structs.replace(request, client=settings.client)
    request, uploads = _take_uploads(request)
    catalog = {**CATALOG, **foreign} if foreign else CATALOG
    return Checked(request, validate(request, settings.limits, catalog), uploads)


def finish(checked: Checked, stored: Mapping[str, UploadSource]) -> Draft:
    """The draft of a checked request, its uploads put in by the names of their sources."""
    request, spec = with_sources(checked.request, dict(stored)), checked.spec
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
    spec = CATALOG.get(name) or foreign.get(name)
    if spec is not None and spec.type == BackendType.AceStep:
        if request.inference_steps is None:
            changes["inference_steps"] = settings.ace_step_default_steps
        if request.scheduler is None:
            changes["scheduler"] = settings.ace_step_default_scheduler
        if request.guidance_scale is None:
            changes["guidance_scale"] = settings.ace_step_default_guidance
    return msgspec.structs.replace(request, **changes) if changes else request


def _take_uploads(request: JobRequest) -> tuple[JobRequest, dict[str, Upload | LocalFile]]:
    """Read the sources that are texts, and take out those that are to be uploaded."""
    if isinstance(request, SeparationRequest) and not isinstance(request.references, dict):
        return request, {}  # which validation refuses
    uploads: dict[str, Upload | LocalFile] = {}
    read: dict[str, Any] = {}
    for name, given in sources_of(request).items():
        source: Any = parse_source(given) if isinstance(given, str) else given
        if is_upload(source):
            uploads[name], source = source, _STAND_IN
        if source is not given:
            read[name] = source
    return with_sources(request, read), uploads


def seed_of(job_id: str) -> int:
    """The seed of a generation that names none: as good as random, and the same whenever the job is submitted again."""
    return int.from_bytes(hashlib.sha256(str(job_id).encode()).digest()[:8], "big") >> (64 - SEED_BITS)
