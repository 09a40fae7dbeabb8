"""Fixtures of the unit room: a model hub on loopback, an empty cache of it, and one thread for small models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub import Hub, serving
from tests.published import FILES, REPOSITORY, use


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for torch: small models gain nothing from more, and lose much on a busy machine."""
    torch = pytest.importorskip("torch", reason="needs the worker extra")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    pytest.importorskip("huggingface_hub", reason="needs the worker extra")
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:  # noqa: ARG001 - the hub writes there
    """A hub that has htdemucs_ft, and a client that does not wait between attempts."""
    monkeypatch.setattr("soundfleet_worker.models.download.PAUSE_SEC", 0.01)
    with serving({REPOSITORY: dict(FILES)}) as served:
        use(served.url, monkeypatch)
        yield served
