"""From a published layout on disk to the estimates: what Demucs' own ``apply_model`` says, for every class of model."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from demucs.apply import BagOfModels, apply_model  # noqa: E402
from demucs.demucs import Demucs  # noqa: E402
from demucs.hdemucs import HDemucs  # noqa: E402
from demucs.htdemucs import HTDemucs  # noqa: E402
from demucs.states import save_with_checksum  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from soundfleet_schemas import (  # noqa: E402
    CATALOG,
    SOURCE,
    STEMS,
    BackendSpec,
    Precision,
    SeparationRequest,
    StemSeparationOptions,
)
from soundfleet_worker.backends.contract import EngineJob, ModelConfig  # noqa: E402
from soundfleet_worker.backends.demucs import DemucsFactory, DemucsModel, Separation  # noqa: E402
from soundfleet_worker.separation.loading import load  # noqa: E402

RATE = 8_000
LENGTHS_SEC = (2.3, 0.4)
"""Longer than a segment of one second, and shorter."""
TOLERANCE = 1e-4
"""Of the loudest sample."""


pytestmark = pytest.mark.usefixtures("one_thread")


def spec() -> BackendSpec:
    published = CATALOG["htdemucs"]
    fields = {name: getattr(published, name) for name in published.__struct_fields__}
    return BackendSpec(**{**fields, "sample_rate": RATE, "segment_sec": 1.0})


def htdemucs(seed: int) -> Any:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"nfft": 512, "depth": 2, "bottom_channels": 16, "t_layers": 2, "t_heads": 2}
    return HTDemucs(list(STEMS), samplerate=RATE, segment=1, channels=8, dconv_init=0.2, **shape)


def hdemucs(seed: int) -> Any:
    torch.manual_seed(seed)
    return HDemucs(list(STEMS), channels=8, nfft=1024, depth=5, samplerate=RATE, segment=1)


def demucs(seed: int) -> Any:
    torch.manual_seed(seed)
    return Demucs(list(STEMS), depth=3, lstm_layers=0, channels=8, samplerate=RATE, segment=1)


def pickled(model: Any, folder: Path, signature: str) -> None:
    """As Demucs' own local repositories have it."""
    args, kwargs = model._init_args_kwargs
    package = {"klass": type(model), "args": args, "kwargs": kwargs, "state": model.state_dict()}
    save_with_checksum(package, folder / f"{signature}.th")


def safetensors(model: Any, folder: Path, signature: str) -> None:
    """As Demucs' repositories on the hub have it."""
    args, kwargs = model._init_args_kwargs
    metadata = {"klass": f"{type(model).__module__}.{type(model).__name__}", "args": json.dumps(args)}
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, folder / f"{signature}.safetensors", {**metadata, "kwargs": json.dumps(kwargs)})


Write = Callable[[Any, Path, str], None]
BAGS: dict[str, tuple[Write, list[Any], list[list[float]] | None]] = {
    "HTDemucs on the hub": (safetensors, [htdemucs], None),
    "HTDemucs in a directory": (pickled, [htdemucs], None),
    "HDemucs in a directory": (pickled, [hdemucs], None),
    "Demucs on the hub": (safetensors, [demucs], None),
    "a weighted bag on the hub": (safetensors, [htdemucs, htdemucs], [[1, 1, 0, 0.5], [0, 1, 1, 1.5]]),
    "a weighted bag of two classes": (pickled, [hdemucs, demucs], [[0.2, 1, 1, 0.5], [1, 0, 1, 1.5]]),
}


@cache
def audio_of(seconds: float) -> np.ndarray:
    """A mix of shape (2, n) with an offset and uneven loudness."""
    chance = np.random.default_rng(round(10 * seconds))
    audio = chance.standard_normal((2, round(seconds * RATE))) * np.array([[0.2], [0.1]]) + 0.01
    return audio.astype(np.float32)


@pytest.fixture(scope="module", params=list(BAGS))
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A directory with a bag in a published layout, and what Demucs says of each length."""
    write, makers, weights = BAGS[request.param]
    folder = tmp_path_factory.mktemp("models")
    signatures = [f"0{seed}abcdef" for seed in range(len(makers))]
    for seed, (make, signature) in enumerate(zip(makers, signatures, strict=True)):
        write(make(seed), folder, signature)
    listed = f"models: {json.dumps(signatures)}\n" + (f"weights: {json.dumps(weights)}\n" if weights else "")
    (folder / "htdemucs.yaml").write_text(listed, encoding="utf-8")
    bag, _ = load(spec(), ModelConfig(folder))
    return folder, [demucs_says(bag, audio_of(seconds)) for seconds in LENGTHS_SEC]


def demucs_says(bag: BagOfModels, audio: np.ndarray) -> np.ndarray:
    """What its ``Separator`` gives, (stems, 2, n)."""
    mix = torch.from_numpy(audio)
    mean, std = mix.mean(0).mean(), mix.mean(0).std() + 1e-8
    out = apply_model(bag, ((mix - mean) / std)[None], shifts=0, overlap=0.25)[0] * std + mean
    return np.asarray(out.numpy())


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_estimates_equal_apply_model(published: tuple[Path, list[Any]], slots: int, tmp_path: Path) -> None:
    """To 1e-4 of the loudest sample, two songs at once, in every size of launch."""
    folder, wanted = published
    loaded = DemucsFactory(spec(), ModelConfig(folder, precision=Precision.Float32)).load("cpu", lambda *_: None)
    assert isinstance(loaded, DemucsModel)
    loaded._most_slots = loaded._slots = slots
    runs = []
    for index, seconds in enumerate(LENGTHS_SEC):
        scratch = tmp_path / str(index)
        scratch.mkdir()
        np.save(scratch / "mix.npy", audio_of(seconds))
        options = StemSeparationOptions(model="htdemucs", overlap_duration=0.25, shifts=0)
        request = SeparationRequest(source="s3://b/k", options=options)
        runs.append(loaded.begin(EngineJob("job", request, spec(), {SOURCE: scratch / "mix.npy"}, scratch)))
    while going := [run for run in runs if not run.done]:
        loaded.step(going)
    for run, theirs in zip(runs, wanted, strict=True):
        assert isinstance(run, Separation)
        ours = np.stack([stem.numpy() for stem in run.sums.take(run.mix.mean).values()])
        assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()
