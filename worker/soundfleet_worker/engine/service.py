"""The nouns of the loop: a ticket is one run as the engine knows it, a service is one backend with its runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from soundfleet_schemas import Backend, BackendSpec, BackendStatus, ErrorCode, Stage, error

from ..backends.contract import BackendFactory, EngineJob, Model, Run
from .faults import describe
from .pressure import Pressure
from .wire import Progress


@dataclass(slots=True, eq=False)
class Ticket:
    """One run, from Start to its last message."""

    name: str
    """The supervisor's name of the run."""
    job: EngineJob
    service: Service
    run: Run | None = None
    memory_bytes: int = 0
    load_sec: float = 0.0
    """Seconds that this run waited for the model to load; 0 when it was warm."""
    begun_at: float = 0.0
    passed: bool = False
    """Whether it began before one that had come earlier and waits for memory."""
    reported_at: float = 0.0
    reported_step: int = -1

    @property
    def position(self) -> tuple[int, int]:
        """``(current_step, total_steps)``; zeros before the run has begun."""
        return (self.run.current_step, self.run.total_steps) if self.run else (0, 0)

    def progress(self, stage: Stage, services: Iterable[Service], now: float) -> Progress:
        """Return where it stands; ``services`` that have runs share the device's time equally."""
        current, total = self.position
        left_sec = alone = self.run.left_sec if self.run else None
        if alone is not None:
            others = (service for service in services if service is not self.service)
            left_sec = alone + sum(min(alone, other.left_sec(now)) for other in others)
        return Progress(run=self.name, stage=stage, current_step=current, total_steps=total, left_sec=left_sec)


@dataclass(slots=True, eq=False)
class Service:
    """One backend of this engine: its factory, its model while it is warm, and its runs."""

    factory: BackendFactory
    status: BackendStatus
    message: str | None = None
    percent: int | None = None
    model: Model | None = None
    waiting: deque[Ticket] = field(default_factory=deque)
    active: deque[Ticket] = field(default_factory=deque)
    pressure: Pressure = field(default_factory=Pressure)
    used_at: float = 0.0
    failed_at: float | None = None
    """When its model last did not load."""
    step_sec: float = float("inf")
    """Duration of the last step."""
    spent_sec: float = 0.0
    """Device time that this service has had, or would have had if it had always been active."""

    @property
    def spec(self) -> BackendSpec:
        return self.factory.spec

    @property
    def name(self) -> str:
        """``kind.backend``, as lanes and workers name it."""
        return f"{self.spec.kind}.{self.spec.backend}"

    @property
    def loaded(self) -> Model:
        """The model, for callers that know it to be warm."""
        if self.model is None:
            raise error(ErrorCode.INTERNAL_ERROR, f"{self.name} has runs, but its model is not loaded")
        return self.model

    @property
    def full(self) -> bool:
        """Whether the model takes no further run now."""
        return self.model is not None and len(self.active) >= self.model.max_runs

    @property
    def memory_bytes(self) -> int:
        """What the model and its active runs take."""
        loaded = self.model.memory_bytes if self.model is not None else 0
        return loaded + sum(ticket.memory_bytes for ticket in self.active)

    def left_sec(self, now: float) -> float:
        """Estimate for how long its runs will want the device; nothing of those that have not made a step."""
        longest = 0.0
        for ticket in self.active:
            if (run := ticket.run) is None:
                continue
            left_sec = run.left_sec
            if left_sec is None and run.current_step:
                left_sec = (now - ticket.begun_at) / run.current_step * (run.total_steps - run.current_step)
            longest = max(longest, left_sec or 0.0)
        return longest

    def entry(self) -> Backend:
        """Return the backend as this engine sees it."""
        backend = Backend.of(self.spec, self.status, self.message)
        if self.percent is None:
            return backend
        fields = {name: getattr(backend, name) for name in backend.__struct_fields__}
        return Backend(**{**fields, "percent": self.percent})

    def turn(self) -> list[Ticket]:
        """Return the runs of the next step; when it cannot take all, the others are first in the next turn."""
        group = list(self.active)
        at_once = self.pressure.at_once
        if at_once is not None and at_once < len(group):
            group = group[:at_once]
            self.active.rotate(-at_once)
        return group


def survey(factory: BackendFactory) -> Service:
    """Return a factory's service with the status that it has before anything is loaded."""
    try:
        return Service(factory, *factory.status())
    except Exception as exc:  # a foreign factory may raise anything: its backend is out of order, the others are not
        return Service(factory, BackendStatus.Error, str(describe(exc, ErrorCode.MODEL_LOAD_FAILED)))
