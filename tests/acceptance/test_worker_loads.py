"""What goes on around a model that takes long to load."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
from tests.fleet import Fleet
from tests.slow import BACKENDS, SPEC, SlowFactory, SlowModel
from tests.waiting import wait_until

from soundfleet_schemas import GenerationRequest, JobStatus
from soundfleet_worker.backends.contract import Report

UNTIL = "SOUNDFLEETX_LOADS_UNTIL"
"""Names the file whose coming ends the load."""


class LateFactory(SlowFactory):
    """The slow backend under another name; its model loads until a file comes."""

    spec = msgspec.structs.replace(SPEC, backend="late", type="late", name="Late")

    def load(self, device: str, report: Report) -> SlowModel:  # noqa: ARG002 - the contract's signature
        wait_until(Path(os.environ[UNTIL]).exists, "the end of the load")
        return SlowModel()


def test_a_job_is_cancelled_while_its_model_loads_and_its_neighbour_goes_on(fleet: Fleet, tmp_path: Path) -> None:
    """It is settled at once; the neighbour loses neither its progress nor the time of the load."""
    worker = fleet.start(
        SOUNDFLEET_BACKENDS=f"{BACKENDS},tests.acceptance.test_worker_loads:LateFactory",
        SOUNDFLEET_ONLY="generate.slow,generate.late",
        **{UNTIL: str(tmp_path / "loaded")},
    )
    neighbour = fleet.slow("steps=40 step_sec=0.05", time_limit_sec=4)  # two seconds
    fleet.running(neighbour)
    loading = fleet.submit(GenerationRequest(prompt="steps=1", duration_sec=1, backend="late", seed=1))
    wait_until(lambda: any(e.progress and e.progress.stage == "load" for e in fleet.events(loading)), "the load")
    began = time.monotonic()
    fleet.producer.cancel(loading)
    assert fleet.ended(loading, timeout=5).status is JobStatus.cancelled
    wait_until(lambda: time.monotonic() - began > 5, "the neighbour's limit to pass")
    (tmp_path / "loaded").touch()
    assert fleet.completed(neighbour).attempt == 1
    steps = [event.progress.current_step for event in fleet.events(neighbour) if event.progress]
    assert steps == sorted(steps)
    assert len(worker.events("engine ready")) == 1
    assert (
        fleet.completed(fleet.submit(GenerationRequest(prompt="steps=2", duration_sec=1, backend="late"))).attempt == 1
    )
