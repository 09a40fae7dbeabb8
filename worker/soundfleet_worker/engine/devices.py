"""The device of an engine: its name, its memory, and its threads. Torch is imported only where a GPU may be."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import re
import sys
from pathlib import Path

import psutil

from soundfleet_schemas import ErrorCode, error

from ..training.memory import keep_freed_memory

MEGABYTE = 1 << 20
SHARE = 0.75
"""Of the device's memory that is the budget when none is set."""
SHARE_OF_FREE = 0.9
"""Of what a GPU has left that is the budget at most: other processes may be on it."""
_NAME = re.compile(r"auto|cpu|cuda(:\d+)?")


def choose_device(wanted: str) -> str:
    """Resolve ``auto`` and ``cuda``; raises INVALID_SETTING when the device is not there."""
    if not _NAME.fullmatch(wanted):
        raise error(ErrorCode.INVALID_SETTING, f"device is {wanted!r}; it takes auto, cpu, cuda or cuda:N")
    if wanted == "cpu" or (wanted == "auto" and not Path("/dev/nvidiactl").exists()):
        return "cpu"
    count = _cuda_count()
    if wanted == "auto" and not count:
        sys.stderr.write("there is an NVIDIA driver, but torch cannot use it: working on the CPU\n")
    if wanted == "auto":
        return "cuda:0" if count else "cpu"
    index = int(wanted.partition(":")[2] or 0)
    if index >= count:
        raise error(ErrorCode.INVALID_SETTING, f"device is {wanted}, but torch sees {count} CUDA devices")
    return f"cuda:{index}"


def _cuda_count() -> int:
    if importlib.util.find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def take_device(device: str) -> None:
    """Make a GPU the one of this process, and let it repeat itself; DEVICE_FAILED when it cannot be had.

    What names no device would else take memory of the first one, and transposed convolutions may add up in any order.
    """
    if device == "cpu":
        return
    import torch

    try:
        torch.cuda.set_device(device)
        torch.cuda.mem_get_info(device)
    except RuntimeError as exc:
        reason = str(exc).partition("\n")[0]
        raise error(ErrorCode.DEVICE_FAILED, f"{device} cannot be used: {reason}") from exc
    torch.backends.cudnn.deterministic = True


def budget_bytes(device: str, memory_mb: int) -> int:
    """Return the memory for models and runs: what was set, else three quarters of what there is, if that is free."""
    if memory_mb:
        return memory_mb * MEGABYTE
    if device == "cpu":
        return int(SHARE * min(psutil.virtual_memory().total, _cgroup_limit()))
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return int(min(SHARE * total, SHARE_OF_FREE * free))


def _cgroup_limit() -> int:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError):  # not this version of cgroups, or "max"
            continue
    return sys.maxsize


def tune(threads: int) -> None:
    """Prepare this process for numeric work; must come before numpy or torch is imported. 0 threads: their default.

    Threads of OpenMP that wait for each other by spinning take the cores from whoever has the work: beside another
    busy process the passive policy made HTDemucs more than ten times as fast. Keeping freed memory halves it again.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as NVIDIA's own tools, and NVML, number them
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuDNN's LSTMs may round differently each time
    keep_freed_memory()
    if not threads:
        return
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)


def release_memory() -> None:
    """Give back what caches hold: Python's garbage, torch's blocks on the GPU, the C library's free pages."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
