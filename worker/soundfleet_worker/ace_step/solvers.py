"""Euler, Heun and PingPong over ACE-Step's timesteps: pure steps on one run's latents.

Flow matching: x(t) goes from noise at t = 1 to music at t = 0, and the model says dx/dt. A solver tells where the model
is to be asked next (``x``, ``t``) and takes the answer. Latents are float32 whatever the model computes in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from soundfleet_schemas import SchedulerType

if TYPE_CHECKING:
    import torch

Draw = Callable[[], "torch.Tensor"]
"""Noise of the latents' shape, from the run's own generator."""


def timesteps(steps: int, shift: float) -> list[float]:
    """Return ``steps`` + 1 timesteps from 1 to 0; a shift above 1 spends more of them near the noise."""
    import torch

    t = torch.linspace(1.0, 0.0, steps + 1)
    if shift != 1.0:
        t = shift * t / (1 + (shift - 1) * t)
    return [float(value) for value in t]


def calls_of(scheduler: SchedulerType, steps: int) -> int:
    """Return how often the model is asked."""
    return 2 * steps - 1 if scheduler is SchedulerType.Heun else steps


class Solver(ABC):
    """One run on its way from noise to music.

    ``advance`` changes nothing when it raises, so that a launch can be repeated after memory ran out.
    """

    def __init__(self, x: torch.Tensor, timesteps: Sequence[float]) -> None:
        self.x = x
        self._timesteps = timesteps
        self._index = 0

    @property
    def t(self) -> float:
        """Where the model is to be asked, together with ``x``."""
        return self._timesteps[self._index]

    @property
    def done(self) -> bool:
        return self._index == len(self._timesteps) - 1

    @property
    def repeats(self) -> bool:
        """Whether this call only corrects the one before it: guidance then keeps its momentum as it is."""
        return False

    @abstractmethod
    def advance(self, slope: torch.Tensor) -> None:
        """Take the model's answer at (``x``, ``t``)."""

    @property
    def _next_t(self) -> float:
        return self._timesteps[self._index + 1]


class Euler(Solver):
    """First order: one call a step."""

    def advance(self, slope: torch.Tensor) -> None:
        self.x = self.x + (self._next_t - self.t) * slope
        self._index += 1


class Heun(Solver):
    """Second order: a step goes along the mean of the slopes at its two ends; the last is an Euler step.

    K. Heun, "Neue Methoden zur approximativen Integration", 1900.
    """

    def __init__(self, x: torch.Tensor, timesteps: Sequence[float]) -> None:
        super().__init__(x, timesteps)
        self._start: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def t(self) -> float:
        return self._timesteps[self._index if self._start is None else self._index + 1]

    @property
    def repeats(self) -> bool:
        return self._start is not None

    def advance(self, slope: torch.Tensor) -> None:
        span = self._next_t - self._timesteps[self._index]
        if self._start is None:
            ahead = self.x + span * slope
            if self._next_t == 0.0:
                self._index += 1
            else:
                self._start = (self.x, slope)
            self.x = ahead
            return
        x, first = self._start
        self.x = x + span * 0.5 * (first + slope)
        self._start = None
        self._index += 1


class PingPong(Solver):
    """Stochastic: each step goes to the end and back, to the next timestep, with fresh noise."""

    def __init__(self, x: torch.Tensor, timesteps: Sequence[float], draw: Draw) -> None:
        super().__init__(x, timesteps)
        self._draw = draw
        self._noise: torch.Tensor | None = None

    def advance(self, slope: torch.Tensor) -> None:
        if self._noise is None:  # kept until the step is done: a step that is repeated must not draw again
            self._noise = self._draw()
        end = self.x - self.t * slope
        self.x = (1.0 - self._next_t) * end + self._next_t * self._noise.to(end.device)
        self._noise = None
        self._index += 1


def solver_of(scheduler: SchedulerType, x: torch.Tensor, steps: int, shift: float, draw: Draw) -> Solver:
    """Return the solver that a request names, at its beginning."""
    path = timesteps(steps, shift)
    if scheduler is SchedulerType.PingPong:
        return PingPong(x, path, draw)
    return Heun(x, path) if scheduler is SchedulerType.Heun else Euler(x, path)
