"""Where the files of a Demucs model lie, found without importing Demucs or asking anybody.

Three places, in this order: the package itself (``htdemucs_mini``), the operator's ``model_dir``, the model hub's
cache. Two layouts: pickled ``.th`` files, as Demucs' local repositories have them, and ``.safetensors``, as the hub
has them; both may have a ``<name>.yaml`` that lists the signatures of a bag. A pickle can run code when it is loaded,
so ``.th`` is read from ``model_dir`` only, which the operator answers for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from soundfleet_schemas import ErrorCode, error

from ..backends.contract import ModelConfig
from ..models.published import PUBLISHED
from ..models.store import HubCache, named_digest
from ..weights import FOLDER

MINI = "htdemucs_mini"
_SIGNATURE = re.compile(r"\w[\w.-]*")
"""Files are named by it: no path."""


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
        return Missing("quantised models need diffq: pip install 'soundfleet[diffq]'")
    if name == MINI:
        return _in_folder(name, FOLDER, "reinstall the package soundfleet")
    if (folder := source.model_dir) is not None:
        advice = f"put its files there: soundfleet backends pull {name} --dir {folder}"
        found = _in_folder(name, folder, advice, pickles=True)
        if isinstance(found, Found) or not (folder.is_dir() and _cached(name)):
            return found
    cached = _cached(name)
    if cached is not None:
        return _in_folder(name, cached, f"pull it again: soundfleet backends pull {name}")
    return Missing(f"not on this machine: soundfleet backends pull {name}, or set SOUNDFLEET_MODEL_DIR")


def _in_folder(name: str, folder: Path, advice: str, *, pickles: bool = False) -> Found | Missing:
    if not folder.is_dir():
        return Missing(f"{folder} is not a directory: {advice}")
    signatures = signatures_of(folder / f"{name}.yaml")
    if signatures is None:
        if pickles and _pickle_of(folder, name):
            return Found(folder, pickled=True)
        return Missing(f"{folder} has no {name}.yaml: {advice}")
    if all((folder / f"{signature}.safetensors").is_file() for signature in signatures):
        return Found(folder, pickled=False)
    absent = [signature for signature in signatures if not (pickles and _pickle_of(folder, signature))]
    if absent:
        return Missing(f"{folder} lacks the weights {', '.join(absent)} of {name}: {advice}")
    return Found(folder, pickled=True)


def _pickle_of(folder: Path, signature: str) -> Path | None:
    plain = folder / f"{signature}.th"
    return plain if plain.is_file() else next(iter(sorted(folder.glob(f"{signature}-*.th"))), None)


def weights_of(name: str, found: Found) -> tuple[str, ...]:
    """Say which weights a folder holds: ``signature-checksum`` per file, the first 8 digits of its SHA-256.

    The catalogue's ``model_version``, and with it the fingerprint of a request, is the same whatever lies in
    ``model_dir``: this tells two sets of files apart, in the result. Raises ValueError for a file whose name has
    another checksum: Demucs' own ``signature-checksum.th``, and what the hub's cache names by its whole SHA-256.
    """
    named = []
    for signature in signatures_of(found.folder / f"{name}.yaml") or [name]:
        pickled = _pickle_of(found.folder, signature) if found.pickled else None
        path = pickled or found.folder / f"{signature}.safetensors"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        promised = path.stem.partition("-")[2] if pickled else _blob(path)
        if not digest.startswith(promised):
            raise ValueError(f"{path.name} has the checksum {digest[: len(promised)]}, its name says {promised}")
        named.append(f"{signature}-{digest[:8]}")
    return tuple(named)


def _blob(path: Path) -> str:
    """The SHA-256 that a file of the hub's cache is named by; empty of any other file."""
    digest = named_digest(path)
    return digest if digest is not None and len(digest) == hashlib.sha256().digest_size * 2 else ""


def signatures_of(path: Path) -> list[str] | None:
    """Read the signatures of a bag; None without the file, MODEL_LOAD_FAILED when it is not a bag's."""
    import yaml

    try:
        bag = yaml.safe_load(path.read_text(encoding="utf-8"))
        signatures = [str(signature) for signature in bag["models"] if not isinstance(signature, list | dict)]
        if not signatures or len(signatures) < len(bag["models"]) or not all(map(_SIGNATURE.fullmatch, signatures)):
            raise ValueError("its signatures are no names")
        return signatures
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError) as exc:
        raise error(ErrorCode.MODEL_LOAD_FAILED, f"{path} is not the description of a Demucs model: {exc}") from None


def _cached(name: str) -> Path | None:
    """Return the snapshot folder in the hub's cache, complete or not."""
    if name not in PUBLISHED or importlib.util.find_spec("huggingface_hub") is None:
        return None
    folder = HubCache(PUBLISHED[name]).current()
    return folder if folder is not None and (folder / f"{name}.yaml").is_file() else None
