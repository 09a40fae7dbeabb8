"""In which floats the decoder computes."""

from __future__ import annotations

import torch

from soundfleet_schemas import Precision

from ..backends.precision import DTYPES, floats_of, has_bfloat16

NAMES = {dtype: str(precision) for precision, dtype in DTYPES.items()}
"""How a result names them."""


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """Resolve ``Auto``: bfloat16 where the device computes it natively, else half precision on a GPU, float32 on a CPU.

    Decoding is bound by reading the weights, so half the bytes are nearly twice the speed. Norms, the residual
    stream, the output heads and the sampling are float32 always, as are the text encoder and the codec. Raises
    BACKEND_NOT_READY for a precision that was named and is not the device's.
    """
    if precision is not Precision.Auto:
        return floats_of(precision, device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return torch.bfloat16 if has_bfloat16(device) else torch.float32
