"""Separation on a real GPU: near to the CPU's result, the same in any company, and mended after out-of-memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

from soundfleet_schemas import (  # noqa: E402
    CATALOG,
    SOURCE,
    STEMS,
    Precision,
    SeparationRequest,
    StemSeparationOptions,
)
from soundfleet_worker.backends.contract import EngineJob, ModelConfig, Run  # noqa: E402
from soundfleet_worker.backends.demucs import DemucsFactory, DemucsModel  # noqa: E402
from soundfleet_worker.engine.devices import budget_bytes, choose_device, take_device  # noqa: E402
from soundfleet_worker.engine.faults import is_out_of_memory  # noqa: E402
from soundfleet_worker.sketch import compose, mixture, render  # noqa: E402

SPEC = CATALOG["htdemucs_mini"]


@pytest.fixture(autouse=True, scope="module")
def device() -> None:
    """The device as an engine takes it."""
    take_device("cuda:0")


def load(device: str, precision: Precision = Precision.Auto) -> DemucsModel:
    config = ModelConfig(offline=True, precision=precision)
    model = DemucsFactory(SPEC, config).load(device, lambda _status, _percent: None)
    assert isinstance(model, DemucsModel)
    return model


def job_of(scratch: Path, seed: int, **options: Any) -> EngineJob:
    scratch.mkdir(parents=True)
    np.save(scratch / "mix.npy", mixture(render(compose("warm lofi", seed, 8 + seed, SPEC.sample_rate))))
    request = SeparationRequest(source="s3://b/k", options=StemSeparationOptions(model=SPEC.backend, **options))
    return EngineJob("job", request, SPEC, {SOURCE: scratch / "mix.npy"}, scratch)


def separate(model: DemucsModel, jobs: Sequence[EngineJob]) -> list[dict[str, np.ndarray]]:
    runs: list[Run] = [model.begin(job) for job in jobs]
    while going := [run for run in runs if not run.done]:
        model.step(going)
    return [{name: audio.copy() for name, audio in model.finish(run).audio.items()} for run in runs]


def test_the_device_is_found() -> None:
    """``auto`` takes it, and the budget is a share of its memory."""
    assert choose_device("auto") == "cuda:0"
    assert 0 < budget_bytes("cuda:0", 0) < torch.cuda.get_device_properties(0).total_memory


@pytest.mark.parametrize("precision", [Precision.Auto, Precision.Float32, Precision.BFloat16, Precision.Float16])
def test_it_is_near_to_the_cpu(precision: Precision, tmp_path: Path) -> None:
    """Within what TF32 convolutions and half-width products round: 40 dB below all stems together."""
    [ours] = separate(load("cuda:0", precision), [job_of(tmp_path / "gpu", 0)])
    [reference] = separate(load("cpu", Precision.Float32), [job_of(tmp_path / "cpu", 0)])
    noise = sum(np.square(ours[stem] - reference[stem]).sum() for stem in STEMS)
    assert noise <= 1e-4 * sum(np.square(reference[stem]).sum() for stem in STEMS)


def test_stems_leave_the_device_as_files(tmp_path: Path) -> None:
    """Mapped in scratch, as on a CPU, and only those that are wanted; the device holds nothing of a finished run."""
    model = load("cuda:0")
    separate(model, [job_of(tmp_path / "first", 0)])  # the libraries take what they keep for good
    job = job_of(tmp_path / "job", 0, two_stems="vocals")
    before = torch.cuda.memory_allocated()
    run = model.begin(job)
    assert torch.cuda.memory_allocated() - before >= model.memory_of(job)
    while not run.done:
        model.step([run])
    audio = model.finish(run).audio
    assert all(isinstance(stem, np.memmap) for stem in audio.values())
    assert sorted(path.name for path in job.scratch.iterdir()) == ["mix.npy", "no_vocals.npy", "vocals.npy"]
    del run
    assert torch.cuda.memory_allocated() <= before


def test_a_run_that_is_dropped_gives_its_memory_back(tmp_path: Path) -> None:
    """In the middle, as a cancelled one."""
    model = load("cuda:0")
    separate(model, [job_of(tmp_path / "first", 0)])
    before = torch.cuda.memory_allocated()
    run = model.begin(job_of(tmp_path / "job", 20, shifts=2))
    model.step([run])
    assert not run.done
    assert torch.cuda.memory_allocated() > before
    model.discard(run)
    del run
    assert torch.cuda.memory_allocated() <= before


def test_company_changes_nothing(tmp_path: Path) -> None:
    """Bit for bit, because a launch always has the same shape."""
    model = load("cuda:0")
    alone = [separate(model, [job_of(tmp_path / f"alone {seed}", seed)])[0] for seed in range(3)]
    together = separate(model, [job_of(tmp_path / f"together {seed}", seed) for seed in range(3)])
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(one[stem], other[stem]) for stem in STEMS)


def test_out_of_memory_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    """A launch that did not fit is repeated with half the slots, and the result is the same to rounding."""
    model = load("cuda:0", Precision.Float32)
    [reference] = separate(model, [job_of(tmp_path / "plain", 1)])
    run = model.begin(job_of(tmp_path / "tight", 1))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(RuntimeError) as caught:
            model.step([run])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert is_out_of_memory(caught.value)
    assert run.current_step == 0
    assert model.shrink()
    while not run.done:
        model.step([run])
    audio = model.finish(run).audio
    for stem in STEMS:
        np.testing.assert_allclose(audio[stem], reference[stem], atol=1e-3)
