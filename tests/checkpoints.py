"""Small Demucs models with random weights, stored under the published names in the published layouts."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from demucs.states import save_with_checksum
from safetensors.torch import save_file

from soundfleet_schemas import CATALOG, STEMS

IDENTITY = [[float(row == column) for column in range(4)] for row in range(4)]
SPECIALISTS = [[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0]]
RATE = 44_100


def hybrid_transformer(seed: int, sources: Sequence[str] = STEMS) -> HTDemucs:
    """As htdemucs, htdemucs_ft and htdemucs_6s are, but narrow: segments of 7.8 s."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"channels": 8, "bottom_channels": 16, "t_layers": 1, "t_heads": 2, "dconv_depth": 1}
    return HTDemucs(list(sources), samplerate=RATE, segment=7.8, **shape)


def hybrid(seed: int) -> HDemucs:
    """As hdemucs_mmi is, and half of mdx: segments of 44 s."""
    torch.manual_seed(seed)
    return HDemucs(list(STEMS), channels=8, samplerate=RATE, segment=44)


def waves(seed: int) -> Demucs:
    """As the other half of mdx is."""
    torch.manual_seed(seed)
    return Demucs(list(STEMS), channels=8, depth=3, lstm_layers=0, samplerate=RATE, segment=44)


def write_model(folder: Path, name: str, models: Sequence[Any], weights: Any = None, *, pickled: bool = False) -> None:
    """Write a bag as Demucs' repositories on the hub have it, or as its local ones do."""
    folder.mkdir(exist_ok=True)
    signatures = [f"{zlib.crc32(f'{name} {number}'.encode()):08x}" for number in range(len(models))]
    for signature, model in zip(signatures, models, strict=True):
        args, kwargs = model._init_args_kwargs
        if pickled:
            package = {"klass": type(model), "args": args, "kwargs": kwargs, "state": model.state_dict()}
            save_with_checksum(package, folder / f"{signature}.th")
            continue
        klass = f"{type(model).__module__}.{type(model).__name__}"
        metadata = {"klass": klass, "args": json.dumps(args), "kwargs": json.dumps(kwargs)}
        tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(tensors, folder / f"{signature}.safetensors", metadata)
    bag = {"models": signatures} | ({} if weights is None else {"weights": weights})
    segment = CATALOG[name].segment_sec
    (folder / f"{name}.yaml").write_text(json.dumps(bag | ({"segment": int(segment)} if segment == 44 else {})))


def write_models(folder: Path) -> list[str]:
    """Write one model of every architecture and return their names."""
    write_model(folder, "htdemucs", [hybrid_transformer(1)])
    write_model(folder, "htdemucs_ft", [hybrid_transformer(seed) for seed in range(2, 6)], IDENTITY)
    write_model(folder, "htdemucs_6s", [hybrid_transformer(6, CATALOG["htdemucs_6s"].stems)], pickled=True)
    write_model(folder, "hdemucs_mmi", [hybrid(7)], pickled=True)
    write_model(folder, "mdx", [waves(8), hybrid(9), waves(10), hybrid(11)], SPECIALISTS)
    write_model(folder, "mdx_extra", [hybrid(seed) for seed in range(12, 16)])
    return ["htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi", "mdx", "mdx_extra"]
