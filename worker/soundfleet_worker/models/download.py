"""One file from the hub to this machine: gathered beside its place, and checked before it has its name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from soundfleet_schemas import ErrorCode, error

from . import hub
from .published import Published
from .store import RemoteFile, Store, digest_of

TRIES = 5
"""Connections in a row that bring not a byte, after which the hub is away."""
PAUSE_SEC = 1.0
"""Between two of them."""

Gathered = Callable[[int], None]
"""Hears how many bytes of the file are here."""


def download(name: str, model: Published, commit: str, file: RemoteFile, store: Store, told: Gathered) -> None:
    """Bring a file here: what an earlier attempt has gathered is kept, a lost connection is made again.

    Raises MODEL_LOAD_FAILED when the hash is wrong, and what the hub's client, its transport and the system raise.
    """
    partial = store.partial(file)
    partial.parent.mkdir(parents=True, exist_ok=True)
    resumed = _size(partial, file) > 0
    _complete(model, commit, file, partial, told)
    if resumed and digest_of(partial, file.digest) != file.digest:  # what lay there was not the beginning of the file
        partial.unlink()
        _complete(model, commit, file, partial, told)
    told(file.size)
    if digest_of(partial, file.digest) != file.digest:
        partial.unlink()
        raise error(
            ErrorCode.MODEL_LOAD_FAILED,
            f"{file.path} of {name} came from {hub.where(model)} with a wrong hash and was removed",
            f"Try again: soundfleet backends pull {name}; if it is wrong again, look at HF_ENDPOINT and the proxies.",
        )
    content = store.content(file)
    content.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, content)


def _complete(model: Published, commit: str, file: RemoteFile, partial: Path, told: Gathered) -> None:
    """Gather until as many bytes are here as the hub has listed, and on the disk."""
    tries = 0
    while (before := _size(partial, file)) < file.size or not partial.exists():
        told(before)
        failure: Exception = EOFError("the hub sends less than it has listed")
        try:
            _gather(model, commit, file, partial, before, told)
        except Exception as exc:  # by three libraries; ``may_pass`` decides
            if not hub.may_pass(exc):
                raise
            failure = exc
        if _size(partial, file) > before:
            tries = 0
        elif not partial.exists() or file.size:
            tries += 1
            if tries >= TRIES:
                raise failure
            time.sleep(PAUSE_SEC)
    with partial.open("rb") as whole:  # a name must not outlive its content when the power fails
        os.fsync(whole.fileno())


def _size(partial: Path, file: RemoteFile) -> int:
    """Bytes that are here; none of a file that is longer than it should be, which is begun anew."""
    try:
        size = partial.stat().st_size
    except FileNotFoundError:
        return 0
    return size if size <= file.size else 0


def _gather(model: Published, commit: str, file: RemoteFile, partial: Path, start: int, told: Gathered) -> None:
    with hub.read(model, commit, file, start) as (begins, chunks), partial.open("r+b" if begins else "wb") as target:
        target.truncate(begins)
        target.seek(begins)
        for chunk in chunks:
            target.write(chunk[: file.size - target.tell()])  # what goes beyond is not the file's; the hash judges
            target.flush()
            told(target.tell())
            if target.tell() >= file.size:
                break
