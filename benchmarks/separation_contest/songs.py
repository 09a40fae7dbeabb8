"""What is separated, and by which weights: sketches with true stems, and a directory that both contenders read."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demucs.htdemucs import HTDemucs
from demucs.states import save_with_checksum

from soundfleet_schemas import BitDepth, OutputFormat
from soundfleet_worker.audio.encode import encode
from soundfleet_worker.sketch import STEMS, compose, mixture, render
from soundfleet_worker.training.evaluate import PROMPTS
from soundfleet_worker.weights import load_htdemucs_mini

RATE = 44_100
HTDEMUCS: dict[str, Any] = {
    "channels": 48,
    "bottom_channels": 512,
    "t_layers": 5,
    "t_heads": 8,
    "dconv_mode": 3,
    "samplerate": RATE,
    "segment": Fraction(39, 5),
}
"""The shape of the published htdemucs, 42 M parameters."""


def network(model: str) -> HTDemucs:
    """The weights of the package, or the shape of htdemucs with random ones."""
    if model == "htdemucs_mini":
        mini: HTDemucs = load_htdemucs_mini().models[0]
        return mini
    torch.manual_seed(0)
    return HTDemucs(list(STEMS), **HTDEMUCS).eval()


def repository(folder: Path, model: str) -> Path:
    """Write the model as Demucs' own local repositories have it."""
    folder.mkdir(parents=True, exist_ok=True)
    net = network(model)
    args, kwargs = net._init_args_kwargs
    signature = hashlib.sha256(model.encode()).hexdigest()[:8]
    package = {"klass": type(net), "args": args, "kwargs": kwargs, "state": net.state_dict()}
    save_with_checksum(package, folder / f"{signature}.th")
    (folder / f"{model}.yaml").write_text(f"models: ['{signature}']\n", encoding="utf-8")
    return folder


def stems(seed: int, seconds: float) -> dict[str, np.ndarray]:
    """The true stems of a sketch that no model was trained on."""
    return render(compose(PROMPTS[seed % len(PROMPTS)], seed, seconds, RATE))


def songs(folder: Path, count: int, seconds: float) -> list[Path]:
    """Write sketches as 16-bit wav files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in range(count):
        path = folder / f"song-{seed}.wav"
        encode(mixture(stems(seed, seconds)), path, RATE, OutputFormat.wav, BitDepth.int16)
        paths.append(path)
    return paths
