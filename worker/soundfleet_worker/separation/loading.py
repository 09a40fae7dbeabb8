"""Loading a Demucs model through Demucs' own code, but never through its silent fallback to another host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from soundfleet_schemas import BackendSpec, ErrorCode, SoundfleetError, error

from ..backends.contract import ModelConfig
from ..weights import load_bag
from .files import HUB, Found, Missing, find, signatures_of, weights_of

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
        bag, weights = _read(spec.backend, found), weights_of(spec.backend, found)
    except (SoundfleetError, MemoryError):
        raise
    except (Exception, SystemExit) as exc:  # unpickling and building may raise anything; Demucs' fatal() exits
        raise _unusable(spec, found.folder, f"{type(exc).__name__}: {exc}") from exc
    _check(bag, spec, found.folder)
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
    """Raise ValueError unless the file names a class of Demucs: the loader would call whatever it names."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        named = (file.metadata() or {}).get("klass")
    if named not in CLASSES:
        raise ValueError(f"{path.name} is of class {named}, not of {', '.join(CLASSES)}")


def _check(bag: BagOfModels, spec: BackendSpec, folder: Path) -> None:
    """Raise MODEL_LOAD_FAILED when the files hold a model of another shape than the catalogue's."""
    shape = (tuple(bag.sources), int(bag.samplerate), int(bag.audio_channels))
    wanted = (spec.stems, spec.sample_rate, 2)
    if shape != wanted:
        words = "stems {}, {} Hz, {} channels"
        has, needs = (words.format(",".join(stems), rate, channels) for stems, rate, channels in (shape, wanted))
        raise _unusable(spec, folder, f"it has {has} instead of {needs}")
    if spec.segment_sec is not None and bag.max_allowed_segment < spec.segment_sec:
        raise _unusable(spec, folder, f"its segments have {float(bag.max_allowed_segment):g} s at most")


def _unusable(spec: BackendSpec, folder: Path, reason: str) -> SoundfleetError:
    return error(
        ErrorCode.MODEL_LOAD_FAILED,
        f"the files of {spec.backend} in {folder} cannot be used: {reason}",
        f"Replace them by the published ones: soundfleet backends pull {spec.backend}",
    )


def pull(
    name: str, source: ModelConfig, report: Callable[[int], None] = lambda _percent: None, *, quiet: bool = False
) -> Path:
    """Download a published model into the hub's cache and return its folder; what is there is not fetched again.

    ``quiet`` shows no progress bars. Raises INVALID_MODEL for a name that the hub does not have, BACKEND_NOT_READY
    offline or when the hub is away.
    """
    if name not in HUB:
        raise error(ErrorCode.INVALID_MODEL, f"{name} is not on the model hub; there are {', '.join(HUB)}")
    if source.offline:
        raise error(ErrorCode.BACKEND_NOT_READY, f"{name} is not on this machine", "Unset SOUNDFLEET_OFFLINE.")
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils.tqdm import disable_progress_bars

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what goes wrong is told once, in the error
    if quiet:
        disable_progress_bars()
    try:
        if not isinstance(try_to_load_from_cache(HUB[name], f"{name}.yaml"), str):
            # Fails at once, where a download would ask again for half a minute.
            get_hf_file_metadata(hf_hub_url(HUB[name], f"{name}.yaml"))
        bag = Path(hf_hub_download(HUB[name], f"{name}.yaml"))
        signatures = signatures_of(bag) or []
        for index, signature in enumerate(signatures):
            report(100 * index // len(signatures))
            hf_hub_download(HUB[name], f"{signature}.safetensors")
    except SoundfleetError:
        raise
    except Exception as exc:  # the hub's client raises its own, requests' and the system's errors
        raise error(
            ErrorCode.BACKEND_NOT_READY,
            f"{name} cannot be pulled from huggingface.co/{HUB[name]}: {type(exc).__name__}: {exc}",
            "Check the network, or copy the files to SOUNDFLEET_MODEL_DIR.",
        ) from exc
    report(100)
    return bag.parent
