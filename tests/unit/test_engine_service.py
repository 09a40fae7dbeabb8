"""What a run tells of the time that it takes, beside the runs of other models on the same device."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.desk import Clock, CountFactory, CountRun

from soundfleet_schemas import GenerationRequest, Stage
from soundfleet_worker.backends.contract import EngineJob
from soundfleet_worker.engine.service import Service, Ticket, survey


@pytest.fixture
def ours() -> Service:
    """With no runs."""
    return survey(CountFactory(Clock(), "ours"))


@pytest.fixture
def other() -> Service:
    """Of another model."""
    return survey(CountFactory(Clock(), "other"))


def run_on(service: Service, *, left_sec: float | None = None, steps: str = "6", done: int = 0) -> Ticket:
    """A run that was begun at 0 s, and stands there."""
    request = GenerationRequest(prompt=f"x {steps}", duration_sec=5, backend=service.spec.backend)
    job = EngineJob(request.id, request, service.spec, scratch=Path())
    ticket = Ticket("run", job, service, run=CountRun(job))
    assert ticket.run is not None
    ticket.run.left_sec, ticket.run.current_step = left_sec, done
    service.active.append(ticket)
    return ticket


def test_a_model_that_foretells_nothing_leaves_it_to_the_steps(ours: Service) -> None:
    """The supervisor estimates from them."""
    assert run_on(ours).progress(Stage.infer, [ours], 4.0).left_sec is None


def test_work_of_another_model_counts_for_as_long_as_it_lasts(ours: Service, other: Service) -> None:
    """Both have half of the device: what is shorter ends at twice its time, and then the longer one has it all."""
    long, short = run_on(ours, left_sec=10.0), run_on(other, left_sec=2.0)
    assert long.progress(Stage.infer, [ours, other], 4.0).left_sec == 12.0
    assert short.progress(Stage.infer, [ours, other], 4.0).left_sec == 4.0


def test_another_model_that_foretells_nothing_is_judged_by_its_steps(ours: Service, other: Service) -> None:
    """Two of six in four seconds: eight more. One that has made none is not counted."""
    long = run_on(ours, left_sec=10.0)
    run_on(other)
    assert long.progress(Stage.infer, [ours, other], 4.0).left_sec == 10.0
    run_on(other, done=2)
    assert long.progress(Stage.infer, [ours, other], 4.0).left_sec == 18.0
