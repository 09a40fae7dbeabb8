"""Pulling a model: list, look what is here, download the rest, check, and only then make it the model."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from soundfleet_schemas import ErrorCode, error

from ..backends.contract import ModelConfig
from . import hub
from .download import download
from .published import Published, is_offline, paths_in, published
from .store import Directory, HubCache, RemoteFile, Store, digest_of, named_digest


class Fetched(NamedTuple):
    """How far a pull is."""

    component: str
    """The file that is being fetched; empty while another process fetches, and when all is done."""
    done_bytes: int
    total_bytes: int
    """Of all files."""

    @property
    def percent(self) -> int:
        return min(100, 100 * self.done_bytes // self.total_bytes) if self.total_bytes else 0


Told: TypeAlias = Callable[[Fetched], None]


def pull(name: str, config: ModelConfig, told: Told = lambda _fetched: None, *, directory: Path | None = None) -> Path:
    """Bring a published model to this machine and return its folder; what is here and whole is not fetched again.

    The place is the hub's cache, or ``directory`` as a directory of models. Raises INVALID_MODEL for a name that the
    hub does not have; MODEL_LOAD_FAILED for a file whose hash is wrong (it is removed), and when the hub refuses;
    BACKEND_NOT_READY offline, when the hub is away, and when the disk is full.
    """
    model = published(name)
    if importlib.util.find_spec("huggingface_hub") is None:
        lacks = "pulling a model needs huggingface_hub"
        raise error(ErrorCode.MISSING_DEPENDENCY, lacks, "Run: pip install 'soundfleet[worker]'")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what goes wrong is told once, in the error
    store = HubCache(model) if directory is None else Directory(model, directory)
    folder = store.current()
    try:
        if folder is not None and model.complete(folder) and not _remove_damaged(folder, model):
            return folder
        if is_offline(config):
            unset = "SOUNDFLEET_OFFLINE" if config.offline else "HF_HUB_OFFLINE"
            raise error(ErrorCode.BACKEND_NOT_READY, f"{name} is not on this machine", f"Unset {unset}.")
        return _fetch(name, model, store, told)
    except Exception as exc:  # the hub's client raises its own, its transport's and the system's errors
        raise hub.describe(exc, name, model, store.root) from exc


def _remove_damaged(folder: Path, model: Published) -> list[Path]:
    """Remove the files of a snapshot that are not what their names say; returns them."""
    damaged = []
    for path in model.wanted(paths_in(folder)):
        blob = (folder / path).resolve()
        digest = named_digest(blob)
        try:
            if digest is None or digest_of(blob, digest) == digest:
                continue
        except FileNotFoundError:  # another process has found it damaged at this moment
            pass
        blob.unlink(missing_ok=True)
        damaged.append(blob)
    return damaged


def _fetch(name: str, model: Published, store: Store, told: Told) -> Path:
    listing = hub.list_files(model)
    files, total = listing.files, listing.total_bytes
    with store.lock(lambda: told(Fetched("", store.bytes_of(files), total))):
        absent = [file for file in files if not store.has(file)]
        _check_room(name, store, absent)
        done = total - sum(file.size for file in absent)
        for file in absent:
            download(name, model, listing.commit, file, store, _Counter(told, file.path, done, total))
            done += file.size
        folder = store.finish(listing.commit, files)
    if not model.complete(folder):
        lacks = f"{hub.where(model)} lacks files that its own description names"
        raise error(ErrorCode.MODEL_LOAD_FAILED, lacks, "Update soundfleet, or use another model.")
    told(Fetched("", total, total))
    return folder


class _Counter:
    """Tells of one file's bytes together with those of the files before it."""

    def __init__(self, told: Told, path: str, before: int, total: int) -> None:
        self._told, self._path, self._before, self._total = told, path, before, total

    def __call__(self, gathered: int) -> None:
        self._told(Fetched(self._path, self._before + gathered, self._total))


def _check_room(name: str, store: Store, absent: list[RemoteFile]) -> None:
    """Raise BACKEND_NOT_READY now rather than after gigabytes when the disk has no room for what is to come."""
    need = sum(file.size for file in absent) - store.bytes_of(absent)
    store.root.mkdir(parents=True, exist_ok=True)
    if need > shutil.disk_usage(store.root).free:
        raise hub.no_room(name, store.root, need)
