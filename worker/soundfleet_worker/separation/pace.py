"""How far launches may run ahead of the device."""

from __future__ import annotations

import torch


class Pace:
    """Lets one launch wait while another runs: a GPU is never idle, and a step has not been long ago when it returns.

    Progress, cancel and time limits act between steps, so hundreds of launches must not queue up. On a CPU a launch
    is over when it returns.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: torch.cuda.Event | None = None

    def keep(self) -> None:
        """Call after each launch: waits for the one before it."""
        if self._device.type != "cuda":
            return
        now = torch.cuda.Event()  # type: ignore[no-untyped-call]
        now.record(torch.cuda.current_stream(self._device))
        if self._before is not None:
            self._before.synchronize()
        self._before = now
