"""The outputs of a completed job: their addresses, and their files on this machine."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from soundfleet_schemas import AudioFile, ErrorCode, Job, JobResult, JobStatus, error, from_info

from .storage import Storage

MANIFEST = "manifest.json"
FileT = TypeVar("FileT", bound=AudioFile)


def result_of(job: Job) -> JobResult:
    """The result of a finished job. Raises the job's own error when it failed or was cancelled."""
    if job.result is not None:
        return job.result
    if job.error is not None and job.finished:
        raise from_info(job.error)
    if job.status is JobStatus.completed:
        raise error(ErrorCode.INTERNAL_ERROR, f"job {job.id} is completed and has no result")
    raise error(ErrorCode.JOB_NOT_FINISHED, f"job {job.id} is {job.status}", f"Wait for it: soundfleet watch {job.id}")


def with_urls(result: JobResult, storage: Storage) -> JobResult:
    """The result with fresh addresses of its files."""
    track = result.track
    if track is not None:
        track = msgspec.structs.replace(track, file=_with_url(track.file, storage))
    stems = {name: _with_url(stem, storage) for name, stem in result.stems.items()}
    addressed = msgspec.structs.replace(result, track=track, stems=stems)
    urls = tuple(file.cdn_url for file in addressed.files.values() if file.cdn_url is not None)
    return msgspec.structs.replace(addressed, cdn_urls=urls)


def _with_url(file: FileT, storage: Storage) -> FileT:
    peaks = None if file.peaks_path is None else storage.url(file.peaks_path)
    return msgspec.structs.replace(file, cdn_url=storage.url(file.path), peaks_url=peaks)


def download_all(result: JobResult, directory: Path, storage: Storage, peaks: bool = False) -> list[Path]:
    """Download every file of a result, their waveforms if asked to, and the manifest; return their paths in this order.

    A path appears only when its file is whole and is what the result says. Raises STORAGE_REFUSED otherwise,
    INVALID_OPTION when the directory takes no files.
    """
    with _writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        paths = [_download(file, directory, storage) for file in result.files.values()]
        if peaks:
            keys = [file.peaks_path for file in result.files.values() if file.peaks_path is not None]
            paths += [_download_peaks(key, directory, storage) for key in keys]
        manifest = directory / MANIFEST
        storage.download(result.output_dir + MANIFEST, manifest)
    return [*paths, manifest]


def prepare_directory(directory: Path) -> None:
    """Make the directory of files that are yet to come. Raises INVALID_OPTION when no file can be written there."""
    with _writing_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):  # the system's own answer, whatever the modes say
            pass


@contextmanager
def _writing_to(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = "it is a file" if directory.is_file() else exc.strerror or exc
        message = f"files cannot be written to {directory}: {reason}"
        raise error(ErrorCode.INVALID_OPTION, message, "Choose another directory.") from exc


def _download(file: AudioFile, directory: Path, storage: Storage) -> Path:
    target = directory / Path(file.filename).name  # a name, never a way out of the directory
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        storage.download(file.path, partial)
        _verify(file, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _download_peaks(key: str, directory: Path, storage: Storage) -> Path:
    target = directory / Path(key).name
    storage.download(key, target)
    return target


def _verify(file: AudioFile, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if size != file.size or (file.sha256 and sha256 != file.sha256):
        raise error(
            ErrorCode.STORAGE_REFUSED,
            f"{file.path} in storage is not what the job delivered ({size} bytes, {file.size} expected)",
            "Submit the job again with use_cache off.",
        )
