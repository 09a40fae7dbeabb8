"""Floats that models compute in, and which of them a device multiplies natively."""

from __future__ import annotations

from pathlib import Path

import torch

from soundfleet_schemas import ErrorCode, Precision, error

DTYPES = {
    Precision.Float32: torch.float32,
    Precision.BFloat16: torch.bfloat16,
    Precision.Float16: torch.float16,
}
CPU_FLAGS = {torch.bfloat16: {"avx512_bf16", "amx_bf16"}, torch.float16: {"avx512_fp16", "amx_fp16"}}
"""What Linux calls the instructions that multiply them."""


def floats_of(wanted: Precision, device: torch.device) -> torch.dtype:
    """Return the floats that the operator names, which is not ``Auto``.

    Raises BACKEND_NOT_READY for those that the device does not multiply natively: they would act, but many times slower
    than float32. That is this worker's mistake and not the job's, which another worker may do.
    """
    floats = DTYPES[wanted]
    native = {torch.bfloat16: has_bfloat16, torch.float16: has_float16}.get(floats)
    if native is not None and not native(device):
        raise error(
            ErrorCode.BACKEND_NOT_READY,
            f"precision is {wanted}, which {device} does not compute natively",
            "Set SOUNDFLEET_PRECISION to auto or fp32 on that worker.",
        )
    return floats


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return _cpu_has(torch.bfloat16)


def has_float16(device: torch.device) -> bool:
    """Whether the device multiplies float16 in hardware: every GPU that torch runs on does."""
    return device.type == "cuda" or _cpu_has(torch.float16)


def _cpu_has(floats: torch.dtype) -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return bool(CPU_FLAGS[floats] & set(flags.split())) and packs(floats)


def packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN has kernels for a matrix of these floats on this CPU; torch's own are slower, and for any."""
    if dtype == torch.float32:
        return True
    name = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}[dtype]
    asked = getattr(torch.ops.mkldnn, name, None)
    return asked is not None and bool(asked())
