"""What speed costs: the engine's estimates beside demucs' own in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from demucs.apply import BagOfModels
from songs import network, stems

from soundfleet_schemas import CATALOG, SOURCE, Precision, SeparationRequest, StemSeparationOptions
from soundfleet_worker.backends.contract import EngineJob
from soundfleet_worker.backends.demucs import DemucsModel, Separation
from soundfleet_worker.sketch import mixture
from soundfleet_worker.training.evaluate import separate, si_sdr


def estimates(model: DemucsModel, audio: np.ndarray, scratch: Path) -> dict[str, np.ndarray]:
    """What the engine's model says of a mix, before the residual is shared."""
    np.save(scratch / "mix.npy", audio)
    options = StemSeparationOptions(model=model.spec.backend, shifts=0, overlap_duration=model.spec.segment_sec / 4)
    request = SeparationRequest(source="s3://bench/song", options=options)
    run = model.begin(EngineJob("quality", request, model.spec, {SOURCE: scratch / "mix.npy"}, scratch))
    while not run.done:
        model.step([run])
    assert isinstance(run, Separation)
    return {stem: audio.cpu().numpy().copy() for stem, audio in run.sums.take(run.mix.mean).items()}


def reference(bag: BagOfModels, audio: np.ndarray) -> np.ndarray:
    """Demucs' own estimates in float32, normalised as its API does; (stems, 2, samples)."""
    mono = audio.mean(axis=0)
    mean, std = mono.mean(), mono.std(ddof=1) + 1e-8
    return separate(bag, (audio - mean) / std) * std + mean


def measure(name: str, device: str, precision: str, count: int, seconds: float, scratch: Path) -> dict[str, Any]:
    """Mean and worst loss of SI-SDR against true stems, and signal to noise against float32; dB.

    The stems of random weights mean nothing, so of those only the second is told.
    """
    bag = BagOfModels([network(name)])
    model = DemucsModel(CATALOG[name], BagOfModels([network(name)]), device, precision=Precision(precision))
    losses, ratios = [], []
    for seed in range(count):
        true = stems(seed, seconds)
        mix = mixture(true)
        theirs = dict(zip(true, reference(bag, mix), strict=True))
        ours = estimates(model, mix, scratch)
        losses += [si_sdr(theirs[stem], true[stem]) - si_sdr(ours[stem], true[stem]) for stem in true]
        noise = sum(np.square(ours[stem] - theirs[stem]).sum() for stem in true)
        ratios.append(float(10 * np.log10(sum(np.square(theirs[stem]).sum() for stem in true) / noise)))
    found = {"precision": str(model.precision), "snr_db": min(ratios), "threads": torch.get_num_threads()}
    if name != "htdemucs_mini":
        return found
    return found | {"si_sdr_loss_db": float(np.mean(losses)), "si_sdr_loss_worst_db": float(np.max(losses))}
