"""How many threads share a call of torch: on a CPU, waking them costs more than most of a token's calls."""

from __future__ import annotations

import torch


class Threads:
    """So many threads inside a ``with``. Whoever computes a call's share, its sums are the same."""

    def __init__(self, count: int) -> None:
        self._count = self._before = count

    @classmethod
    def all(cls) -> Threads:
        """As many as there are now."""
        return cls(torch.get_num_threads())

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(self._count)

    def __exit__(self, *exc: object) -> None:
        torch.set_num_threads(self._before)
