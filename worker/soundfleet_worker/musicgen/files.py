"""Where a checkpoint's files lie: a folder of its name in the operator's directory of models, or the hub's cache."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from soundfleet_schemas import BackendSpec

from ..backends.contract import ModelConfig
from ..models import snapshot

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "spiece.model")
"""One of them is enough."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no folder, and what to do."""

    reason: str


def find(spec: BackendSpec, source: ModelConfig) -> Path | Missing:
    """Look for the folder of a checkpoint, without the network; whether it holds everything, ``lacks`` says."""
    name = spec.model_version
    if source.model_dir is not None and (folder := source.model_dir / name).is_dir():
        return folder
    pull = f"soundfleet backends pull {spec.backend}, or put the folder {name} into SOUNDFLEET_MODEL_DIR"
    return snapshot(spec.backend) or Missing(f"not on this machine: {pull}")


def lacks(folder: Path) -> list[str]:
    """Name the files that a checkpoint needs and a folder does not have."""
    absent = [] if (folder / CONFIG).is_file() else [CONFIG]
    shards = shards_of(folder)
    absent += [name for name in shards or (WEIGHTS,) if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in TOKENIZERS):
        absent.append(" or ".join(TOKENIZERS))
    return absent


def shards_of(folder: Path) -> list[str]:
    """Return the weight files; none when nothing names them."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    try:
        named = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({str(name) for name in named})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []


def weights_of(folder: Path) -> tuple[str, ...]:
    """Say which weights a folder holds: name and the first 8 digits of the SHA-256 of each file.

    The hub's cache names a file by its hash, which spares reading gigabytes.
    """
    return tuple(f"{Path(name).stem}-{_digest((folder / name).resolve())[:8]}" for name in shards_of(folder))


def _digest(path: Path) -> str:
    if _SHA256.fullmatch(path.name):
        return path.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
