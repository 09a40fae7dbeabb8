"""What is asked of the model hub: the list of a model's files, and their bytes from any of them on.

The hub's own client makes the requests, so that its settings (``HF_ENDPOINT``, ``HF_TOKEN``, proxies) hold here.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from soundfleet_schemas import ErrorCode, SoundfleetError, error
from soundfleet_schemas.errors import show

from .published import Published
from .store import RemoteFile, is_digest

ANSWER_SEC = 15.0
"""A hub that says nothing for so long is away."""
_COPY = "or copy the files to SOUNDFLEET_MODEL_DIR."


class Listing(NamedTuple):
    """A model's files at one commit."""

    commit: str
    files: list[RemoteFile]

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)


def list_files(model: Published) -> Listing:
    """Ask for the newest commit's files; one request, which is not repeated: a hub that is away is known at once."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(model.repository, revision=model.revision, files_metadata=True, timeout=ANSWER_SEC)
    listed = {sibling.rfilename: sibling for sibling in info.siblings or []}
    if absent := model.lacks(listed):
        raise error(
            ErrorCode.MODEL_LOAD_FAILED,
            f"{where(model)} has no {', '.join(absent)}",
            f"Update soundfleet, {_COPY}",
        )
    files = []
    for path in model.wanted(listed):
        file = listed[path]
        digest = file.lfs.sha256 if file.lfs is not None else file.blob_id
        if not (_is_below(path) and isinstance(file.size, int) and file.size >= 0 and is_digest(digest)):
            said = f"{where(model)} lists {show(path)} without a place, a size or a hash"
            raise error(ErrorCode.MODEL_LOAD_FAILED, said, _CHECK)
        files.append(RemoteFile(path, file.size, digest))
    if not is_digest(info.sha):
        raise error(ErrorCode.MODEL_LOAD_FAILED, f"{where(model)} does not say which commit it lists", _CHECK)
    return Listing(info.sha, files)


def _is_below(path: str) -> bool:
    """Whether a path stays in the folder that it is put into."""
    parts = PurePosixPath(path).parts
    return bool(parts) and ".." not in parts and not path.startswith("/") and "\\" not in path and path.isprintable()


@contextlib.contextmanager
def read(model: Published, commit: str, file: RemoteFile, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Open a file from byte ``start`` on; gives where the bytes really begin (0 when the hub sends them all)."""
    from huggingface_hub import hf_hub_url

    client: Any = importlib.import_module("huggingface_hub.utils")  # which exports lazily, so that no checker sees it
    headers = client.build_hf_headers() | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    url = hf_hub_url(model.repository, file.path, revision=commit)
    with client.get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=ANSWER_SEC) as answer:
        client.hf_raise_for_status(answer)
        yield start if answer.status_code == 206 else 0, answer.iter_bytes()


def where(model: Published) -> str:
    """A model's address, as a person writes it."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT.partition('://')[2]}/{model.repository}"


def may_pass(exc: Exception) -> bool:
    """Whether a download that broke off by this may go on: the connection was lost, or the hub is busy."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(exc, HfHubHTTPError):
        return exc.response.status_code in (408, 429) or exc.response.status_code >= 500
    return not isinstance(exc, SoundfleetError | OSError | OfflineModeIsEnabled)


def describe(exc: Exception, name: str, model: Published, place: Path) -> SoundfleetError:
    """Say what stopped a pull: MODEL_LOAD_FAILED when a repetition would fare no better, else BACKEND_NOT_READY."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    at, why = where(model), " ".join(str(exc).split())
    if isinstance(exc, SoundfleetError):
        return exc
    if isinstance(exc, OfflineModeIsEnabled):
        return error(ErrorCode.BACKEND_NOT_READY, f"{name} is not on this machine", "Unset HF_HUB_OFFLINE.")
    if isinstance(exc, GatedRepoError):
        terms = f"Accept the terms at https://{at} and set HF_TOKEN."
        return error(ErrorCode.MODEL_LOAD_FAILED, f"{at} is not open to everyone", terms)
    if isinstance(exc, HfHubHTTPError) and not may_pass(exc):
        said = f"the hub answers {exc.response.status_code}, it has no such files or does not show them"
        return error(ErrorCode.MODEL_LOAD_FAILED, f"{name} cannot be had from {at}: {said}", _CHECK)
    if isinstance(exc, OSError) and not isinstance(exc, HfHubHTTPError) and exc.errno is not None:
        return _of_disk(exc, name, place)
    if isinstance(exc, HfHubHTTPError):
        said = f"the hub answers {exc.response.status_code}"
    else:
        said = f"{type(exc).__name__}: {why}" if why else type(exc).__name__
    return error(
        ErrorCode.BACKEND_NOT_READY,
        f"{name} cannot be pulled from {at}: {said}",
        f"Check the network and HF_ENDPOINT, {_COPY}",
    )


_CHECK = f"Check HF_ENDPOINT and HF_TOKEN, {_COPY}"


def _of_disk(exc: OSError, name: str, place: Path) -> SoundfleetError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_room(name, place)
    advice = f"Make {place} writable, or let HF_HOME (or --dir) name another directory."
    return error(ErrorCode.BACKEND_NOT_READY, f"{name} cannot be written to {place}: {exc.strerror}", advice)


def no_room(name: str, place: Path, need_bytes: int | None = None) -> SoundfleetError:
    """The disk is full, or would be."""
    need = "" if need_bytes is None else f" for {need_bytes / 1e6:,.0f} MB"
    advice = "Free space there, or let HF_HOME (or --dir) name a directory with more."
    return error(ErrorCode.BACKEND_NOT_READY, f"{name} cannot be pulled: the disk of {place} has no room{need}", advice)
