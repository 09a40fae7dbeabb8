"""Floats that models compute in, and which of them a device multiplies natively."""

from __future__ import annotations

from pathlib import Path

import torch

from soundfleet_schemas import Precision

DTYPES = {
    Precision.Float32: torch.float32,
    Precision.BFloat16: torch.bfloat16,
    Precision.Float16: torch.float16,
}
CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
"""What Linux calls the instructions that multiply bfloat16."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return bool(CPU_FLAGS & set(flags.split())) and packs(torch.bfloat16)


def packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN has kernels for a matrix of these floats on this CPU; torch's own are slower, and for any."""
    if dtype == torch.float32:
        return True
    name = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}[dtype]
    asked = getattr(torch.ops.mkldnn, name, None)
    return asked is not None and bool(asked())
