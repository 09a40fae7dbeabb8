"""From a checkpoint to weights in the layout of Demucs' repositories on the model hub."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import save

from .checkpoint import Checkpoint

NAME = "htdemucs_mini"
MAX_BYTES = 4_000_000


def export(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write the averaged weights in half precision as `<signature>.safetensors` with `htdemucs_mini.yaml`.

    The signature is the hash of the tensors. Earlier `.safetensors` files in the folder are removed. Raises
    ValueError when the file would exceed `MAX_BYTES`.
    """
    tensors = {
        name: tensor.half().contiguous() if tensor.dtype == torch.float32 else tensor.contiguous()
        for name, tensor in sorted(checkpoint.average.items())
    }
    metadata = {
        "klass": "demucs.htdemucs.HTDemucs",
        "args": "[]",
        "kwargs": json.dumps(checkpoint.shape, sort_keys=True),
        "license": "MIT",
        "steps": str(checkpoint.step),
    }
    content = save(tensors, metadata=metadata)
    if len(content) > MAX_BYTES:
        raise ValueError(f"the weights take {len(content)} bytes, at most {MAX_BYTES} are allowed")
    signature = sha256(save(tensors)).hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{signature}.safetensors"
    target.write_bytes(content)
    (folder / f"{NAME}.yaml").write_text(f"models: ['{signature}']\n", encoding="utf-8")
    for stale in set(folder.glob("*.safetensors")) - {target}:
        stale.unlink()
    return target
