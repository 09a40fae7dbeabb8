"""A published model with random content, and how the hub's client of this process is led to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soundfleet_worker.backends.contract import ModelConfig

REPOSITORY = "adefossez/HTDemucs-ft"
NAME = "htdemucs_ft"
FIRST, SECOND = os.urandom(600_000), os.urandom(3_000_000)
FILES = {
    "README.md": b"not wanted",
    "htdemucs_ft.yaml": b"models: ['f7e0c4bc', 'd12395a8']\n",
    "f7e0c4bc.safetensors": FIRST,
    "d12395a8.safetensors": SECOND,
}
WANTED = {path: body for path, body in FILES.items() if path != "README.md"}
CONFIG = ModelConfig()


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's client ask this address."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
