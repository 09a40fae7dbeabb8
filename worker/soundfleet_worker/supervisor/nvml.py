"""The border to NVIDIA's management library: how busy a device is. Whatever it cannot say is None, never an error."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

_MB = 1 << 20
Library = Callable[[], Any]


def _installed() -> Any:
    return importlib.import_module("pynvml")


class Nvml:
    """Readings of one device, by torch's name of it (``cuda``, ``cuda:1``)."""

    def __init__(self, library: Library = _installed, environment: Mapping[str, str] = os.environ) -> None:
        """``library`` returns the module ``pynvml``, or raises ImportError."""
        self._library: Library | None = library
        self._environment = environment
        self._nvml: Any = None
        self._handles: dict[str, Any] = {}

    def read(self, device: str) -> tuple[float | None, int | None]:
        """Return utilisation, 0 to 1, and memory in use, MB."""
        if not device.startswith("cuda") or not self._open():
            return None, None
        usage = memory_mb = None
        with contextlib.suppress(self._nvml.NVMLError):  # a slice of a device says nothing of its use
            handle = self._handle(device)
            memory_mb = self._nvml.nvmlDeviceGetMemoryInfo(handle).used // _MB
            usage = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        return usage, memory_mb

    def _open(self) -> bool:
        """Load the library once; without it or its driver there is nothing to ask for the rest of this life."""
        if self._library is not None:
            library, self._library = self._library, None
            try:
                nvml = library()
            except ImportError:
                return False
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlInit()
                self._nvml = nvml
        return self._nvml is not None

    def _handle(self, device: str) -> Any:
        """The device that torch means: its numbers count what ``CUDA_VISIBLE_DEVICES`` leaves to be seen."""
        if device not in self._handles:
            number = int(device.partition(":")[2] or 0)
            visible = [name.strip() for name in self._environment.get("CUDA_VISIBLE_DEVICES", "").split(",")]
            name = visible[number] if any(visible) and number < len(visible) else str(number)
            by_number = self._nvml.nvmlDeviceGetHandleByIndex
            handle = by_number(int(name)) if name.isdigit() else self._nvml.nvmlDeviceGetHandleByUUID(name)
            self._handles[device] = handle
        return self._handles[device]
