"""In which floats the decoder computes."""

from __future__ import annotations

import torch

from soundfleet_schemas import Precision

_NAMED = {
    Precision.Float32: torch.float32,
    Precision.BFloat16: torch.bfloat16,
    Precision.Float16: torch.float16,
}
NAMES = {dtype: str(precision) for precision, dtype in _NAMED.items()}
"""How a result names them."""


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """Resolve ``Auto``: bfloat16 where the device computes it natively, else half precision on a GPU, float32 on a CPU.

    Decoding is bound by reading the weights, so half the bytes are nearly twice the speed. Norms, the residual
    stream, the output heads and the sampling are float32 always, as are the text encoder and the codec.
    """
    if precision is not Precision.Auto:
        return _NAMED[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def _cpu_has_bfloat16() -> bool:
    flags = [getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")]
    return any(flag is not None and flag() for flag in flags)
