"""Loading a Demucs model through Demucs' own code, but never through its silent fallback to another host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundfleet_schemas import BackendSpec, ErrorCode, SoundfleetError, error

from ..backends.contract import ModelConfig
from ..models.published import PUBLISHED
from ..weights import load_bag
from .files import Found, Missing, find, signatures_of, weights_of

if TYPE_CHECKING:
    from demucs.apply import BagOfModels

CLASSES = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs")


def load(spec: BackendSpec, source: ModelConfig) -> tuple[BagOfModels, tuple[str, ...]]:
    """Return a model as a bag (a single one as a bag of one), on the CPU, in eval mode, and what its weights are.

    Raises BACKEND_NOT_READY when its files are not here, MODEL_LOAD_FAILED when they are not what they must be.
    """
    found = find(spec.backend, source)
    if isinstance(found, Missing):
        raise error(ErrorCode.BACKEND_NOT_READY, f"{spec.backend}: {found.reason}")
    try:
        weights = weights_of(spec.backend, found)  # before anything is made of a damaged file
        bag = _read(spec.backend, found)
    except (SoundfleetError, MemoryError):
        raise
    except (Exception, SystemExit) as exc:  # unpickling and building may raise anything; Demucs' fatal() exits
        raise _unusable(spec, found.folder, source, f"{type(exc).__name__}: {exc}") from exc
    _check(bag, spec, found.folder, source)
    return bag, weights


def _read(name: str, found: Found) -> BagOfModels:
    if not found.pickled:
        for signature in signatures_of(found.folder / f"{name}.yaml") or []:
            _check_class(found.folder / f"{signature}.safetensors")
        return load_bag(name, found.folder)
    from demucs.apply import BagOfModels
    from demucs.pretrained import get_model

    model = get_model(name, repo=found.folder)
    return model if isinstance(model, BagOfModels) else BagOfModels([model]).eval()


def _check_class(path: Path) -> None:
    """Raise ValueError unless the file names classes of Demucs and diffq: the loader would call whatever it names."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
    named = metadata.get("klass")
    if named not in CLASSES:
        raise ValueError(f"{path.name} is of class {named}, not of {', '.join(CLASSES)}")
    for quantiser in _classes_in(json.loads(metadata.get("structure", "null"))):
        if quantiser.partition(".")[0] != "diffq":
            raise ValueError(f"{path.name} is quantised by {quantiser}, not by diffq")


def _classes_in(node: Any) -> Iterator[str]:
    """The classes that the description of a quantised state names, at any depth."""
    if isinstance(node, dict):
        if "_class" in node:
            yield str(node["_class"])
        node = list(node.values())
    if isinstance(node, list):
        for below in node:
            yield from _classes_in(below)


def _check(bag: BagOfModels, spec: BackendSpec, folder: Path, source: ModelConfig) -> None:
    """Raise MODEL_LOAD_FAILED when the files hold a model of another shape than the catalogue's."""
    shape = (tuple(bag.sources), int(bag.samplerate), int(bag.audio_channels))
    wanted = (spec.stems, spec.sample_rate, 2)
    if shape != wanted:
        words = "stems {}, {} Hz, {} channels"
        has, needs = (words.format(",".join(stems), rate, channels) for stems, rate, channels in (shape, wanted))
        raise _unusable(spec, folder, source, f"it has {has} instead of {needs}")
    if spec.segment_sec is not None and bag.max_allowed_segment < spec.segment_sec:
        raise _unusable(spec, folder, source, f"its segments have {float(bag.max_allowed_segment):g} s at most")


def _unusable(spec: BackendSpec, folder: Path, source: ModelConfig, reason: str) -> SoundfleetError:
    published = spec.backend in PUBLISHED
    place = f" --dir {folder}" if folder == source.model_dir else ""
    pull = f"Replace them by the published ones: soundfleet backends pull {spec.backend}{place}"
    return error(
        ErrorCode.MODEL_LOAD_FAILED,
        f"the files of {spec.backend} in {folder} cannot be used: {reason}",
        pull if published else "Reinstall the package soundfleet.",
    )
