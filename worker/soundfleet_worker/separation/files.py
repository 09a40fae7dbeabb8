"""Where the files of a Demucs model lie, found without importing Demucs or asking anybody.

Three places, in this order: the package itself (``htdemucs_mini``), the operator's ``model_dir``, the model hub's
cache. Two layouts: pickled ``.th`` files, as Demucs' local repositories have them, and ``.safetensors``, as the hub
has them; both may have a ``<name>.yaml`` that lists the signatures of a bag. A pickle can run code when it is loaded,
so ``.th`` is read from ``model_dir`` only, which the operator answers for.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from soundfleet_schemas import ErrorCode, error

from ..backends.contract import ModelConfig
from ..weights import FOLDER

MINI = "htdemucs_mini"
HUB = {
    "htdemucs": "adefossez/HTDemucs",
    "htdemucs_ft": "adefossez/HTDemucs-ft",
    "htdemucs_6s": "adefossez/HTDemucs-6s",
    "hdemucs_mmi": "adefossez/Demucs-hdemucs_mmi",
    "mdx": "adefossez/Demucs-mdx",
    "mdx_extra": "adefossez/Demucs-mdx_extra",
    "mdx_q": "adefossez/Demucs-mdx_q",
    "mdx_extra_q": "adefossez/Demucs-mdx_extra_q",
}
"""Repositories of the published models on the hub, as Demucs names them."""


@dataclass(frozen=True, slots=True)
class Found:
    """A folder that holds all files of a model."""

    folder: Path
    pickled: bool
    """Whether the tensors are in ``.th`` files."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no such folder, and what to do."""

    reason: str


def find(name: str, source: ModelConfig) -> Found | Missing:
    """Look for the files of a model, without the network."""
    if name.endswith("_q") and importlib.util.find_spec("diffq") is None:
        return Missing("quantised models need diffq: pip install diffq")
    if name == MINI:
        return _in_folder(name, FOLDER, "reinstall the package soundfleet")
    if source.model_dir is not None:
        found = _in_folder(name, source.model_dir, f"copy the model's files to {source.model_dir}")
        if isinstance(found, Found) or not (source.model_dir.is_dir() and _cached(name)):
            return found
    cached = _cached(name)
    if cached is not None:
        return _in_folder(name, cached, f"pull it again: soundfleet backends pull {name}")
    return Missing(f"not on this machine: soundfleet backends pull {name}, or set SOUNDFLEET_MODEL_DIR")


def _in_folder(name: str, folder: Path, advice: str) -> Found | Missing:
    if not folder.is_dir():
        return Missing(f"{folder} is not a directory: {advice}")
    signatures = signatures_of(folder / f"{name}.yaml")
    if signatures is None:
        if _pickle_of(folder, name):
            return Found(folder, pickled=True)
        return Missing(f"{folder} has no {name}.yaml: {advice}")
    if all((folder / f"{signature}.safetensors").is_file() for signature in signatures):
        return Found(folder, pickled=False)
    absent = [signature for signature in signatures if not _pickle_of(folder, signature)]
    if absent:
        return Missing(f"{folder} lacks the weights {', '.join(absent)} of {name}: {advice}")
    return Found(folder, pickled=True)


def _pickle_of(folder: Path, signature: str) -> Path | None:
    plain = folder / f"{signature}.th"
    return plain if plain.is_file() else next(iter(sorted(folder.glob(f"{signature}-*.th"))), None)


def weights_of(name: str, found: Found) -> tuple[str, ...]:
    """Say which weights a folder holds: ``signature-checksum`` per file, the first 8 digits of its SHA-256.

    The catalogue's ``model_version``, and with it the fingerprint of a request, is the same whatever lies in
    ``model_dir``: this tells two sets of files apart, in the result.
    """
    named = []
    for signature in signatures_of(found.folder / f"{name}.yaml") or [name]:
        pickled = _pickle_of(found.folder, signature) if found.pickled else None
        with (pickled or found.folder / f"{signature}.safetensors").open("rb") as file:
            named.append(f"{signature}-{hashlib.file_digest(file, 'sha256').hexdigest()[:8]}")
    return tuple(named)


def signatures_of(path: Path) -> list[str] | None:
    """Read the signatures of a bag; None without the file, MODEL_LOAD_FAILED when it is not a bag's."""
    import yaml

    try:
        bag = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [str(signature) for signature in bag["models"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError) as exc:
        raise error(ErrorCode.MODEL_LOAD_FAILED, f"{path} is not the description of a Demucs model: {exc}") from None


def _cached(name: str) -> Path | None:
    """Return the snapshot folder in the hub's cache."""
    if name not in HUB or importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(HUB[name], f"{name}.yaml")
    return Path(path).parent if isinstance(path, str) else None
