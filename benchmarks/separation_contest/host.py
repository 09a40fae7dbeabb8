"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("soundfleet", "demucs", "torch", "numpy", "av")


def load() -> float:
    """Processes that wanted a core in the last minute, on average."""
    return round(os.getloadavg()[0], 2)


def describe(device: str) -> dict[str, Any]:
    """Processor, cores, device, system, versions, and the load before the run."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "load_before": load(),
    }


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    lines = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(("model name", "flags"))]
    wide = sorted({"avx512_bf16", "amx_bf16"} & set(lines[1].split()))
    return f"{lines[0]} ({', '.join(wide) or 'no bfloat16'})"
