"""How many jobs of a backend a worker takes: what its model has places for, and one more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from soundfleet_schemas import GenerationRequest, Stage
from soundfleet_worker.supervisor.capacity import AHEAD, room
from soundfleet_worker.supervisor.run import Run


def run_of(backend: str | None, stage: Stage = Stage.infer, *, fetches: bool = False) -> Run:
    """A run of this backend; of None, one whose request was not read yet."""
    request: Any = None if backend is None else GenerationRequest(prompt="x", duration_sec=5, backend=backend)
    return cast(Run, SimpleNamespace(request=request, stage=stage, fetches=fetches))


def test_a_model_of_one_place_gets_one_job_more_than_it_runs() -> None:
    """What this worker would only hold, another could run."""
    runs: list[Run] = []
    while room("ace_step", {"ace_step": 1}, runs) > 0:
        runs.append(run_of("ace_step"))
    assert len(runs) == 1 + AHEAD


def test_a_model_that_is_not_loaded_gets_its_first_jobs_only() -> None:
    """How many it takes at once is known afterwards."""
    assert room("musicgen", {}, []) == 1 + AHEAD
    assert room("musicgen", {"musicgen": 40}, []) == 40 + AHEAD


def test_jobs_of_other_models_deliveries_and_downloads_take_no_place() -> None:
    """But one that was only just claimed may be of any model."""
    others = [run_of("musicgen"), run_of("ace_step", Stage.deliver), run_of("ace_step", fetches=True)]
    assert room("ace_step", {"ace_step": 4}, others) == 4 + AHEAD
    assert room("ace_step", {"ace_step": 4}, [*others, run_of(None)]) == 3 + AHEAD
