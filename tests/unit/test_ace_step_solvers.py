"""Euler, Heun and PingPong: each is what its name says, against diffusers' schedulers and a known solution."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler  # noqa: E402

from soundfleet_schemas import SchedulerType  # noqa: E402
from soundfleet_worker.ace_step.solvers import PingPong, Solver, calls_of, solver_of, timesteps  # noqa: E402

SHAPE = (30, 4)
Slope = Callable[[torch.Tensor, float], torch.Tensor]


def noise(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def model(x: torch.Tensor, t: float) -> torch.Tensor:
    """A smooth velocity that depends on both."""
    return torch.sin(2.0 * x + t) - 0.5 * t * x


def solve(solver: Solver, slope: Slope = model) -> tuple[torch.Tensor, int]:
    """Return the end, and how often the model was asked."""
    calls = 0
    while not solver.done:
        solver.advance(slope(solver.x, solver.t))
        calls += 1
    return solver.x, calls


def solver_for(scheduler: SchedulerType, steps: int, shift: float = 3.0, seed: int = 5) -> Solver:
    generator = torch.Generator().manual_seed(seed)
    return solver_of(scheduler, noise(1), steps, shift, lambda: torch.randn(SHAPE, generator=generator))


def stepped_by_diffusers(steps: int, shift: float, seed: int = 5, *, stochastic: bool) -> torch.Tensor:
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0, stochastic_sampling=stochastic)
    scheduler.set_timesteps(sigmas=timesteps(steps, shift)[:-1])
    generator, x = torch.Generator().manual_seed(seed), noise(1)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, float(t)), t, x, generator=generator, return_dict=False)[0]
    return x


@pytest.mark.parametrize("steps", [1, 8, 60])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_is_the_schedulers(steps: int, shift: float) -> None:
    """Whatever the number of steps and the shift."""
    ours, calls = solve(solver_for(SchedulerType.Euler, steps, shift))
    assert calls == steps
    torch.testing.assert_close(ours, stepped_by_diffusers(steps, shift, stochastic=False), atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [1, 8])
def test_pingpong_is_the_schedulers_stochastic_sampling(steps: int) -> None:
    """With the same generator, which another seed is not."""
    ours, calls = solve(solver_for(SchedulerType.PingPong, steps))
    assert calls == steps
    torch.testing.assert_close(ours, stepped_by_diffusers(steps, 3.0, stochastic=True), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours, solve(solver_for(SchedulerType.PingPong, steps))[0], atol=0, rtol=0)
    if steps > 1:
        other, _ = solve(solver_for(SchedulerType.PingPong, steps, seed=6))
        assert (ours - other).abs().max() > 0.01


def test_heun_is_the_schedulers() -> None:
    """On timesteps that diffusers' class can be brought to: its own, which take no sigmas."""
    scheduler = FlowMatchHeunDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
    scheduler.set_timesteps(7)
    path = [float(t) / 1000 for t in scheduler.timesteps[::2]]
    x = noise(1)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, float(t) / 1000), t, x, return_dict=False)[0]
    heun = solver_for(SchedulerType.Heun, 7)
    heun._timesteps = [*path, 0.0]
    torch.testing.assert_close(solve(heun)[0], x, atol=1e-5, rtol=0)


def test_heun_comes_closer_with_fewer_calls() -> None:
    """It is of second order: twice the steps leave about a quarter of the error, where Euler leaves half."""
    exact, _ = solve(solver_for(SchedulerType.Heun, 500, 1.0))

    def error_of(scheduler: SchedulerType, steps: int) -> tuple[float, int]:
        x, calls = solve(solver_for(scheduler, steps, 1.0))
        return float((x - exact).abs().mean()), calls

    (euler, euler_calls), (euler_finer, _) = error_of(SchedulerType.Euler, 40), error_of(SchedulerType.Euler, 80)
    (heun, heun_calls), (heun_finer, _) = error_of(SchedulerType.Heun, 20), error_of(SchedulerType.Heun, 40)
    assert heun_calls == 39 < euler_calls == 40
    assert heun < euler / 5
    assert euler / euler_finer == pytest.approx(2.0, rel=0.15)
    assert heun / heun_finer > 3.0


def test_the_calls_are_counted_before() -> None:
    """Progress knows its end at the beginning."""
    for scheduler in SchedulerType:
        for steps in (1, 2, 9):
            assert solve(solver_for(scheduler, steps))[1] == calls_of(scheduler, steps)


def test_timesteps_go_from_noise_to_music() -> None:
    """Evenly without a shift; with one, more of them near the noise."""
    assert timesteps(4, 1.0) == [1.0, 0.75, 0.5, 0.25, 0.0]
    shifted = timesteps(4, 3.0)
    assert shifted[0] == 1.0
    assert shifted[-1] == 0.0
    assert shifted[1:-1] == pytest.approx([0.9, 0.75, 0.5])


@pytest.mark.parametrize("scheduler", list(SchedulerType))
def test_a_step_that_failed_is_repeated_to_the_same_end(scheduler: SchedulerType) -> None:
    """Out of memory in the middle of a step neither moves the run nor draws its noise twice."""

    class Failing(torch.Tensor):
        """Raises when it is calculated with."""

        @classmethod
        def __torch_function__(cls, *_args: object, **_kwargs: object) -> object:
            raise torch.OutOfMemoryError

    solver, undisturbed = solver_for(scheduler, 5), solve(solver_for(scheduler, 5))[0]
    while not solver.done:
        slope = model(solver.x, solver.t)
        with pytest.raises(torch.OutOfMemoryError):
            solver.advance(slope.as_subclass(Failing))
        solver.advance(slope)
    assert torch.equal(solver.x, undisturbed)


def test_the_noise_of_pingpong_is_drawn_once_a_step() -> None:
    """The last step's too: the sequence of draws follows from the steps alone."""
    drawn = []

    def draw() -> torch.Tensor:
        drawn.append(1)
        return noise(len(drawn))

    x, calls = solve(PingPong(noise(1), timesteps(6, 1.0), draw))
    assert calls == len(drawn) == 6
    assert math.isfinite(float(x.abs().sum()))
