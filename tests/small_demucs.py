"""Small Demucs models with random weights, mixes for them, and what Demucs' own code says of these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demucs.apply import BagOfModels, apply_model
from demucs.htdemucs import HTDemucs

from soundfleet_schemas import CATALOG, SOURCE, STEMS, BackendSpec, SeparationRequest, StemSeparationOptions
from soundfleet_worker.backends.contract import EngineJob, Output
from soundfleet_worker.backends.demucs import DemucsModel, Separation

RATE = 8_000
SPEC: BackendSpec = CATALOG["htdemucs_mini"]


def spec_of(segment_sec: float = 1.0) -> BackendSpec:
    fields = {name: getattr(SPEC, name) for name in SPEC.__struct_fields__}
    return BackendSpec(**{**fields, "sample_rate": RATE, "segment_sec": segment_sec})


def small_htdemucs(seed: int) -> HTDemucs:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"channels": 8, "nfft": 512, "depth": 2, "bottom_channels": 16, "t_layers": 1, "t_heads": 2}
    return HTDemucs(list(STEMS), samplerate=RATE, segment=1, **shape).eval()


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """A mix of shape (2, n) with an offset and uneven loudness."""
    chance = np.random.default_rng(seed)
    audio = chance.standard_normal((2, round(seconds * RATE))) * np.array([[0.2], [0.1]]) + 0.01
    return audio.astype(np.float32)


def job_of(audio: np.ndarray, scratch: Path, spec: BackendSpec, **options: Any) -> EngineJob:
    scratch.mkdir(parents=True, exist_ok=True)
    np.save(scratch / "mix.npy", audio)
    request = SeparationRequest(source="s3://b/k", options=StemSeparationOptions(model=spec.backend, **options))
    return EngineJob("job", request, spec, {SOURCE: scratch / "mix.npy"}, scratch)


def estimates(model: DemucsModel, jobs: Sequence[EngineJob]) -> list[dict[str, np.ndarray]]:
    """Separate all jobs at once and return what the models said, before the sum rule."""
    runs = [model.begin(job) for job in jobs]
    while going := [run for run in runs if not run.done]:
        model.step(going)
    taken = []
    for run in runs:
        assert isinstance(run, Separation)
        taken.append({stem: audio.numpy() for stem, audio in run.sums.take(run.mix.mean).items()})
    return taken


def separate(model: DemucsModel, job: EngineJob) -> Output:
    run = model.begin(job)
    while not run.done:
        model.step([run])
    return model.finish(run)


def demucs_says(bag: BagOfModels, audio: np.ndarray, **how: Any) -> dict[str, np.ndarray]:
    """What Demucs' own ``Separator`` gives."""
    mix = torch.from_numpy(audio)
    mono = mix.mean(0)
    mean, std = mono.mean(), mono.std() + 1e-8
    out = apply_model(bag, ((mix - mean) / std)[None], split=True, **how)[0] * std + mean
    return dict(zip(STEMS, out.numpy(), strict=True))


def assert_close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert list(ours) == list(theirs)
    for stem, audio in ours.items():
        np.testing.assert_allclose(audio, theirs[stem], atol=1e-5, err_msg=stem)
