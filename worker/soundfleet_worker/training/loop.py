"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .architecture import MINI, build
from .checkpoint import Checkpoint, State
from .loss import separation_loss
from .pool import Mixing, Pool

WARM_UP = 0.02
"""Share of the run in which the learning rate rises."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train, for how long and on what."""

    out: Path
    """The checkpoint file."""
    steps: int | None = None
    minutes: float | None = None
    """The run ends after `steps` or after `minutes`; exactly one is given."""
    seed: int = 0
    device: str = "cpu"
    batch: int = 4
    pool: int = 96
    """Sketches in memory."""
    renew_every: int = 8
    """Steps between two new sketches."""
    learning_rate: float = 1e-3
    average: float = 0.999
    """Decay of the moving average of the weights."""
    half: bool = False
    """Whether the forward pass runs in bfloat16 where it may."""
    save_every_sec: float = 60.0
    shape: dict[str, Any] = field(default_factory=lambda: dict(MINI))
    mixing: Mixing = field(default_factory=Mixing)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give either steps or minutes")

    def progress(self, step: int, elapsed_sec: float) -> float:
        """Return the share of the run that is over, 0 to 1."""
        done = step / self.steps if self.steps is not None else elapsed_sec / (60.0 * (self.minutes or 1.0))
        return min(done, 1.0)

    def rate(self, progress: float) -> float:
        """Return the learning rate: a linear rise, then half a cosine down to a hundredth."""
        if progress < WARM_UP:
            return self.learning_rate * max(progress / WARM_UP, 0.02)
        fall = 0.5 * (1.0 + math.cos(math.pi * (progress - WARM_UP) / (1.0 - WARM_UP)))
        return self.learning_rate * (0.01 + 0.99 * fall)


def train(plan: Plan, resume: Checkpoint | None = None, report: Callable[[str], None] = print) -> Checkpoint:
    """Train until the plan is fulfilled, writing `plan.out` now and then; return the last checkpoint."""
    torch.manual_seed(plan.seed)
    model = build(plan.shape).to(plan.device).train()
    state = resume or Checkpoint(dict(plan.shape), _copy(model.state_dict()), _copy(model.state_dict()))
    model.load_state_dict(state.model)
    average: State = {name: tensor.to(plan.device) for name, tensor in state.average.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=1e-3)
    if state.optimizer:
        optimizer.load_state_dict(state.optimizer)
    samples = int(plan.shape["segment"] * plan.shape["samplerate"])
    pool = Pool(plan.pool, plan.seed + state.step)
    report(f"step {state.step}: {plan.pool} sketches in the pool")

    step, before = state.step, state.elapsed_sec
    began = saved = time.monotonic()
    running = 0.0
    while (progress := plan.progress(step, before + time.monotonic() - began)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(progress)
        stems = pool.batch(plan.batch, samples, plan.mixing).to(plan.device)
        with torch.autocast(torch.device(plan.device).type, torch.bfloat16, enabled=plan.half):
            estimate = model(stems.sum(1))
        loss = separation_loss(estimate.float(), stems)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        step += 1
        _follow(average, model.state_dict(), min(plan.average, (1.0 + step) / (10.0 + step)))
        running += 0.02 * (loss.item() - running) if running else loss.item()
        if step % plan.renew_every == 0:
            pool.renew()
        if time.monotonic() - saved > plan.save_every_sec:
            saved = time.monotonic()
            state = _take(plan, model, average, optimizer, step, before + saved - began)
            state.save(plan.out)
            report(
                f"step {step} of {progress:.1%}  loss {running:.3f}  rate {plan.rate(progress):.1e}  "
                f"{(saved - began) / max(step - (resume.step if resume else 0), 1):.2f} s/step"
            )
    state = _take(plan, model, average, optimizer, step, before + time.monotonic() - began)
    state.save(plan.out)
    report(f"step {step}: done, loss {running:.3f}, {state.elapsed_sec / 60:.1f} min")
    return state


def _take(
    plan: Plan,
    model: torch.nn.Module,
    average: State,
    optimizer: torch.optim.Optimizer,
    step: int,
    elapsed_sec: float,
) -> Checkpoint:
    weights = _copy(model.state_dict())
    return Checkpoint(dict(plan.shape), weights, _copy(average), optimizer.state_dict(), step, elapsed_sec)


def _copy(state: State) -> State:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _follow(average: State, weights: State, decay: float) -> None:
    """Move the average a little towards the weights."""
    with torch.no_grad():
        for name, tensor in weights.items():
            if tensor.dtype.is_floating_point:
                average[name].lerp_(tensor, 1.0 - decay)
            else:
                average[name].copy_(tensor)
