"""Small Demucs models with random weights, in the layouts in which the real ones are published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from demucs.hdemucs import HDemucs  # noqa: E402
from demucs.htdemucs import HTDemucs  # noqa: E402
from demucs.states import save_with_checksum  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from soundfleet_schemas import STEMS  # noqa: E402

SHAPE: dict[str, Any] = {"channels": 8, "nfft": 512, "depth": 2, "bottom_channels": 16, "t_layers": 1, "t_heads": 2}


def network(**changes: Any) -> HTDemucs:
    torch.manual_seed(0)
    return HTDemucs(**{"sources": list(STEMS), "samplerate": 44_100, "segment": 8, **SHAPE, **changes})


def write_pickled(folder: Path, model: HTDemucs, name: str = "htdemucs", signature: str = "955717e8") -> Path:
    """Write a model as Demucs' own local repositories have it: pickle with checksum, and the bag's yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    args, kwargs = model._init_args_kwargs
    package = {"klass": type(model), "args": args, "kwargs": kwargs, "state": model.state_dict()}
    save_with_checksum(package, folder / f"{signature}.th")
    (folder / f"{name}.yaml").write_text(f"models: ['{signature}']\n")
    return next(folder.glob(f"{signature}-*.th"))


def write_safetensors(folder: Path, model: HTDemucs, name: str = "htdemucs", signature: str = "955717e8") -> Path:
    """Write a model as Demucs' repositories on the hub have it."""
    folder.mkdir(parents=True, exist_ok=True)
    _args, kwargs = model._init_args_kwargs
    metadata = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(kwargs)}
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()},
        folder / f"{signature}.safetensors",
        metadata,
    )
    (folder / f"{name}.yaml").write_text(f"models: ['{signature}']\n")
    return folder / f"{signature}.safetensors"


def in_the_hubs_cache(cache: Path, write: Callable[[Path], Path]) -> Path:
    """Put a model into the hub's cache as its client does, named by its content and linked; return the content."""
    repository = cache / "models--adefossez--HTDemucs"
    path = write(repository / "snapshots" / "abc")
    blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
    blob.parent.mkdir(parents=True)
    path.rename(blob)
    path.symlink_to(f"../../blobs/{blob.name}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    return blob


def quantised_state(model: HDemucs) -> dict[str, Any]:
    """The weights of a model as diffq packs them into 8 bits."""
    from diffq import UniformQuantizer

    return UniformQuantizer(model, bits=8, min_size=0).get_quantized_state() | {"__quantized": True}


def small_mdx() -> HDemucs:
    torch.manual_seed(0)
    return HDemucs(sources=list(STEMS), samplerate=44_100, segment=44, channels=8, nfft=512, depth=2)


def write_quantised(folder: Path) -> Path:
    """Write a quantised model as Demucs' local repositories have it; return the folder."""
    folder.mkdir()
    model = small_mdx()
    args, kwargs = model._init_args_kwargs
    package = {"klass": type(model), "args": args, "kwargs": kwargs, "state": quantised_state(model)}
    save_with_checksum(package, folder / "83fc094f.th")
    (folder / "mdx_extra_q.yaml").write_text("models: ['83fc094f']\nsegment: 44\n")
    return folder


def write_quantised_safetensors(folder: Path) -> Path:
    """Write it as Demucs' repositories on the hub have it: flat tensors, and their structure beside them."""
    folder.mkdir()
    model = small_mdx()
    tensors: dict[str, torch.Tensor] = {}
    metadata = {
        "klass": "demucs.hdemucs.HDemucs",
        "args": "[]",
        "kwargs": json.dumps(model._init_args_kwargs[1]),
        "structure": json.dumps(_flat(quantised_state(model), tensors)),
    }
    save_file(tensors, folder / "83fc094f.safetensors", metadata)
    (folder / "mdx_extra_q.yaml").write_text("models: ['83fc094f']\nsegment: 44\n")
    return folder


def _flat(node: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(node, torch.Tensor):
        tensors[f"t{len(tensors)}"] = node.contiguous().clone()
        return {"_tensor": f"t{len(tensors) - 1}"}
    if isinstance(node, dict):
        return {"_dict": [[key, _flat(value, tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return {"_tuple" if isinstance(node, tuple) else "_list": [_flat(value, tensors) for value in node]}
    return {"_class": f"{node.__module__}.{node.__qualname__}"} if isinstance(node, type) else node
