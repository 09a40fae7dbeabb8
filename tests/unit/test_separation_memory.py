"""What a long song adds to the engine's memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from soundfleet_schemas import CATALOG, SOURCE, SeparationRequest, StemSeparationOptions  # noqa: E402
from soundfleet_worker.backends.contract import EngineJob, ModelConfig, Run  # noqa: E402
from soundfleet_worker.backends.demucs import DemucsFactory, DemucsModel  # noqa: E402

SPEC = CATALOG["htdemucs_mini"]
MEGABYTE = 1 << 20
TEN_MINUTES_BYTES = 1_500_000_000
SLACK_BYTES = 96 * MEGABYTE
"""What the C library may hold beside it, whatever the length; the stems of two minutes are 169 MB."""


def resident_bytes() -> int:
    """Memory of this process that no file stands behind."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


def begin(model: DemucsModel, scratch: Path, seconds: float) -> Run:
    """Begin with what leads to the last window: only two are computed."""
    scratch.mkdir()
    samples = round(seconds * SPEC.sample_rate)
    mix = np.lib.format.open_memmap(scratch / "mix.npy", "w+", np.float32, (2, samples))
    mix[:, ::100] = 0.1
    request = SeparationRequest(source="s3://b/k", options=StemSeparationOptions(model=SPEC.backend, shifts=0))
    run = model.begin(EngineJob("job", request, SPEC, {SOURCE: scratch / "mix.npy"}, scratch))
    run.current_step = run.total_steps - 2
    return run


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
def test_a_song_adds_its_stems_and_no_more(tmp_path: Path) -> None:
    """They are files in scratch: two minutes of audio add only what the C library holds."""
    model = DemucsFactory(SPEC, ModelConfig(offline=True)).load("cpu", lambda *_: None)
    assert isinstance(model, DemucsModel)
    peaks = []
    for seconds in (6.0, 6.0, 120.0):  # the first one warms up
        run = begin(model, tmp_path / str(len(peaks)), seconds)
        peaks.append(resident_bytes())
        while not run.done:
            model.step([run])
            peaks[-1] = max(peaks[-1], resident_bytes())
        model.finish(run)
        peaks[-1] = max(peaks[-1], resident_bytes())
    assert peaks[2] - peaks[1] < SLACK_BYTES
    assert model.memory_of(run.job) < TEN_MINUTES_BYTES * 120 / 600


def test_ten_minutes_of_six_stems_fit_one_and_a_half_gigabytes(tmp_path: Path) -> None:
    """By the same prediction that admits runs: every stem and the mix."""
    model = DemucsFactory(SPEC, ModelConfig(offline=True)).load("cpu", lambda *_: None)
    assert isinstance(model, DemucsModel)
    run = begin(model, tmp_path / "run", 60.0)
    per_stem = model.memory_of(run.job) // (len(SPEC.stems) + 1)
    assert 10 * per_stem * (len(CATALOG["htdemucs_6s"].stems) + 1) < TEN_MINUTES_BYTES
