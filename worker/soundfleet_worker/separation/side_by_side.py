"""Windows of a light model side by side on a CPU, each on one core.

A small model's layers are too short to be shared out among cores: two cores make a window hardly sooner than one. So
each window has a core to itself. What it comes to depends neither on their number nor on that of the cores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from .network import Network

MOST = 8
"""Windows at once: each takes a launch's memory."""


class SideBySide:
    """Threads that compute with one core each."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        # The number of cores is each thread's own: the engine's other models keep theirs.
        self._pool = ThreadPoolExecutor(threads, "window", initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, network: Network, windows: torch.Tensor) -> list[torch.Tensor]:
        """Separate (windows, 2, length) to one (sources, 2, length) each; raises the first window's error."""
        futures = [self._pool.submit(network, window[None]) for window in windows]
        return [future.result()[0] for future in futures]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
