"""Where the files of an ACE-Step checkpoint lie, found without importing diffusers or asking anybody.

Three places, in this order: ``<model_dir>/<model_version>``, the same below ``ace_step_dir``, the model hub's cache.
One layout: the converted one of diffusers, a folder per component beside ``model_index.json``. Weights are read from
``.safetensors`` only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundfleet_schemas import BackendSpec

from ..backends.contract import ModelConfig
from ..models import snapshot

REFUSED = "ACE-Step-v1-3.5B"
WHY_REFUSED = (
    "ACE-Step v1-3.5B has another architecture (a DCAE with a vocoder, a UMT5 text encoder), which diffusers does not "
    "load: use a checkpoint of ACE-Step 1.5"
)
INDEX = "model_index.json"
NEEDED = ("transformer", "condition_encoder", "vae", "text_encoder", "tokenizer")
COVER = ("audio_tokenizer", "audio_token_detokenizer")
"""Components that only the task cover needs; some conversions lack them."""
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


@dataclass(frozen=True, slots=True)
class Found:
    """The folder of a checkpoint; whether it is whole is seen when it is loaded."""

    folder: Path
    loras: Path | None
    """The operator's folder of LoRAs, beside the checkpoints; None in the hub's cache."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no such folder, and what to do."""

    reason: str


def find(spec: BackendSpec, source: ModelConfig) -> Found | Missing:
    """Look for the files of a checkpoint, without the network."""
    version = spec.model_version
    if version.lower() == REFUSED.lower():
        return Missing(WHY_REFUSED)
    folders = [folder for folder in (source.model_dir, source.ace_step_dir) if folder is not None]
    for folder in folders:
        if (folder / version).is_dir():
            return Found(folder / version, folder / "loras")
    cached = snapshot(spec.backend)
    if cached is None:
        return Missing(f"not on this machine: {how_to_get(spec)}")
    return Found(cached, folders[0] / "loras" if folders else None)


def how_to_get(spec: BackendSpec) -> str:
    """Say where a checkpoint comes from."""
    folder = f"the folder {spec.model_version} of SOUNDFLEET_ACE_STEP_MODEL_DIR"
    if spec.repository:
        return f"soundfleet backends pull {spec.backend}, or put its converted files into {folder}"
    return f"convert it with diffusers' scripts/convert_ace_step_to_diffusers.py into {folder}"


def index_of(folder: Path) -> dict[str, Any]:
    """Read ``model_index.json``; raises OSError or ValueError."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if not isinstance(index, dict):
        raise ValueError(f"{INDEX} is not an object")
    return index


def absent_of(folder: Path) -> tuple[str, ...]:
    """Name the needed components that have no folder, or a folder without a configuration."""
    names = {"tokenizer": "tokenizer_config.json"}
    return tuple(name for name in NEEDED if not (folder / name / names.get(name, "config.json")).is_file())


def weights_of(folder: Path) -> list[str]:
    """Say which weights a folder holds: ``component-checksum``, 8 digits of a SHA-256.

    ``model_version`` is the same whatever lies in the folder: this tells two sets of files apart, in the result. The
    checksum is of the size and of samples spread over each file: whole checkpoints have up to 20 GB.
    """
    named = []
    for component in sorted({path.parent for path in folder.glob("*/*.safetensors")}):
        named.append(f"{component.name}-{checksum_of(component.glob('*.safetensors'))}")
    return named


def checksum_of(paths: Iterable[Path]) -> str:
    """Return 8 digits that tell files apart."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        for block in _samples(path):
            digest.update(block)
    return digest.hexdigest()[:8]


def _samples(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield size.to_bytes(8, "big")
    with path.open("rb") as file:
        for position in range(0, size, max(_SAMPLE_BYTES, size // _SAMPLES)):
            file.seek(position)
            yield file.read(_SAMPLE_BYTES)
