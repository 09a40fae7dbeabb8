"""Which backends have their weights on a model hub, and where."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from soundfleet_schemas import CATALOG, BackendSpec, BackendType, ErrorCode, SoundfleetError, error
from soundfleet_schemas.catalog import why_refused

from ..backends.contract import ModelConfig

_TRUE = frozenset({"1", "ON", "YES", "TRUE"})


@dataclass(frozen=True, slots=True)
class Published:
    """A model on the hub."""

    repository: str
    """``owner/name``."""
    patterns: tuple[str, ...]
    """Of the paths that are needed, as ``fnmatch`` reads them (``*`` crosses folders); each matches one at least."""
    optional: tuple[str, ...] = ()
    """Patterns of paths that are fetched where the repository has them."""
    modules: tuple[str, ...] = ()
    """Python modules that loading needs."""
    named: Callable[[Path], Iterable[str]] = lambda _folder: ()
    """The paths that the model's own description in a folder names; they are needed, too."""
    folder: str = ""
    """Where the files go below a directory of models; the directory itself when empty."""
    revision: str = "main"

    def wanted(self, paths: Iterable[str]) -> list[str]:
        """Of a repository's paths those that the model needs, in the order of the patterns."""
        paths, patterns = sorted(paths), (*self.patterns, *self.optional)
        return list(dict.fromkeys(p for pattern in patterns for p in paths if fnmatchcase(p, pattern)))

    def lacks(self, paths: Iterable[str]) -> list[str]:
        """The patterns that none of the paths matches."""
        paths = list(paths)
        return [pattern for pattern in self.patterns if not any(fnmatchcase(path, pattern) for path in paths)]

    def complete(self, folder: Path) -> bool:
        """Whether a folder holds all files: of each pattern one, what the description names, and every shard."""
        paths = paths_in(folder)
        if self.lacks(paths):
            return False
        named = [*self.named(folder), *(shard for path in paths for shard in _shards(folder, path))]
        return set(named) <= set(paths)


def _shards(folder: Path, path: str) -> list[str]:
    """The files among which an index spreads the tensors; none for a path that is no index."""
    if not path.endswith(".safetensors.index.json"):
        return []
    try:
        index = json.loads((folder / path).read_text(encoding="utf-8"))
        return sorted({(Path(path).parent / shard).as_posix() for shard in index["weight_map"].values()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []  # it is for the loader to say what is wrong with it


def _demucs(spec: BackendSpec) -> Published:
    name = spec.backend
    modules = ("torch", "demucs", "yaml", *(("diffq",) if name.endswith("_q") else ()))
    return Published(
        repository=spec.repository,
        patterns=(f"{name}.yaml", "*.safetensors"),
        modules=modules,
        named=lambda folder: _bag(folder, name),
    )


def _bag(folder: Path, name: str) -> list[str]:
    from ..separation.files import signatures_of

    try:
        return [f"{signature}.safetensors" for signature in signatures_of(folder / f"{name}.yaml") or []]
    except SoundfleetError:
        return []  # it is for the loader to say what is wrong with it


def _musicgen(spec: BackendSpec) -> Published:
    return Published(
        repository=spec.repository,
        patterns=("config.json", "model*.safetensors"),
        optional=("*.json", "spiece.model"),
        modules=("torch", "transformers"),
        folder=spec.model_version,
    )


def _ace_step(spec: BackendSpec) -> Published:
    parts = ("transformer", "condition_encoder", "vae", "text_encoder")
    cover = ("audio_tokenizer", "audio_token_detokenizer")  # which some conversions lack
    return Published(
        repository=spec.repository,
        patterns=("model_index.json", "tokenizer/*.json", *(f"{part}/*.{end}" for part in parts for end in _TENSORS)),
        optional=("tokenizer/*.txt", "tokenizer/*.jinja", *(f"{part}/*.{end}" for part in cover for end in _TENSORS)),
        modules=("torch", "diffusers", "transformers"),
        folder=spec.model_version,
    )


def on_hub(spec: BackendSpec) -> Published | None:
    """Where a backend's model is on the hub; None for one that is not there."""
    family = _FAMILIES.get(spec.type)
    return family(spec) if family is not None and spec.repository else None


_TENSORS = ("json", "safetensors")
_FAMILIES: dict[str, Callable[[BackendSpec], Published]] = {
    BackendType.Demucs: _demucs,
    BackendType.MusicGen: _musicgen,
    BackendType.AceStep: _ace_step,
}
PUBLISHED: dict[str, Published] = {name: model for name, spec in CATALOG.items() if (model := on_hub(spec)) is not None}
"""By the name of the backend: every one of the catalogue that names a repository."""


def published(name: str) -> Published:
    """Return where a model is; raises INVALID_MODEL for one that no hub has, or that no backend serves."""
    if name not in PUBLISHED:
        if (why := why_refused(name)) is not None:
            raise error(ErrorCode.INVALID_MODEL, f"{name} cannot be served: {why}")
        raise error(ErrorCode.INVALID_MODEL, f"{name} is not on the model hub; there are {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def obtainable(name: str, config: ModelConfig) -> bool:
    """Whether this machine may ask the hub for the model, and could load it then."""
    model = PUBLISHED.get(name)
    if model is None or is_offline(config):
        return False
    if config.model_dir is not None and not config.model_dir.is_dir():
        return False
    return all(importlib.util.find_spec(module) is not None for module in ("huggingface_hub", *model.modules))


def is_offline(config: ModelConfig) -> bool:
    """Whether the hub may not be asked: by our setting, or by that of its own client."""
    return config.offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def snapshot(name: str) -> Path | None:
    """Return the folder in the hub's cache that holds all files of a model; None without it. Asks nobody."""
    model = PUBLISHED.get(name)
    if model is None or importlib.util.find_spec("huggingface_hub") is None:
        return None
    from .store import HubCache

    folder = HubCache(model).current()
    return folder if folder is not None and model.complete(folder) else None


def paths_in(folder: Path) -> list[str]:
    """The files below a folder, as a repository names them."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
