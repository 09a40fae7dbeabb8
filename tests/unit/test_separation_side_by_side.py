"""Light models on a CPU: a window to a core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from soundfleet_schemas import CATALOG, SOURCE, SeparationRequest, StemSeparationOptions  # noqa: E402
from soundfleet_worker.backends.contract import EngineJob  # noqa: E402
from soundfleet_worker.backends.demucs import DemucsModel  # noqa: E402
from soundfleet_worker.separation.side_by_side import SideBySide  # noqa: E402
from soundfleet_worker.weights import load_htdemucs_mini  # noqa: E402

SPEC = CATALOG["htdemucs_mini"]


@pytest.fixture
def cores() -> Iterator[Any]:
    """Sets the number of cores that models loaded from now on may use."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def job_of(folder: Path, seconds: float, seed: int) -> EngineJob:
    """A separation of noise."""
    folder.mkdir()
    audio = 0.1 * np.random.default_rng(seed).standard_normal((2, round(seconds * 44_100)))
    np.save(folder / "mix.npy", audio.astype(np.float32))
    request = SeparationRequest(source="s3://b/k", options=StemSeparationOptions(model=SPEC.backend, shifts=0))
    return EngineJob(folder.name, request, SPEC, {SOURCE: folder / "mix.npy"}, folder)


def separate(model: DemucsModel, jobs: list[EngineJob]) -> list[dict[str, np.ndarray]]:
    """All at once."""
    runs = [model.begin(job) for job in jobs]
    while going := [run for run in runs if not run.done]:
        model.step(going)
    return [{stem: np.array(audio) for stem, audio in model.finish(run).audio.items()} for run in runs]


def test_company_and_the_number_of_cores_change_no_bit(tmp_path: Path, cores: Any) -> None:
    """An odd number of windows, three songs, and two, three or four windows at once."""
    told = []
    for count in (2, 3, 4):
        cores(count)
        model = DemucsModel(SPEC, load_htdemucs_mini(), "cpu")
        assert model._slots == count
        folder = tmp_path / str(count)
        folder.mkdir()
        (alone,) = separate(model, [job_of(folder / "alone", 5.0, 1)])
        company = separate(model, [job_of(folder / f"song-{seed}", 5.0, seed) for seed in (3, 1, 2)])
        told += [alone, company[1]]
        assert torch.get_num_threads() == count, "the other models keep their cores"
        model.close()
    for stems in told[1:]:
        for stem, audio in stems.items():
            np.testing.assert_array_equal(audio, told[0][stem])


def test_an_error_in_a_window_is_the_launchs() -> None:
    """As if there had been one thread."""

    def network(window: Any) -> Any:
        if window.sum() > 0:
            raise MemoryError("too many")
        return window

    threads = SideBySide(2)
    with pytest.raises(MemoryError, match="too many"):
        threads(network, torch.stack([torch.zeros(2, 4), torch.ones(2, 4)]))  # type: ignore[arg-type]
    assert len(threads(network, torch.zeros(3, 2, 4))) == 3  # type: ignore[arg-type]
    threads.close()
