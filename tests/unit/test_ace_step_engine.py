"""The engine runs ACE-Step as any backend: loads it, shows progress to the end, cancels at once, and tells failures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
from tests.ace_step_checkpoint import build, job_of, load, play, spec_of  # noqa: E402

from soundfleet_schemas import BackendStatus, ErrorCode, Precision, Stage  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepFactory  # noqa: E402
from soundfleet_worker.backends.contract import EngineJob, ModelConfig  # noqa: E402
from soundfleet_worker.engine.loop import Engine  # noqa: E402
from soundfleet_worker.engine.wire import (  # noqa: E402
    Cancel,
    Cancelled,
    Failed,
    Finished,
    FromEngine,
    Progress,
    Ready,
    Start,
)

BUDGET = 1 << 40
"""The catalogue's numbers are those of the full size."""


pytestmark = pytest.mark.usefixtures("one_thread")


def start(engine: Engine, name: str, job: EngineJob) -> None:
    inputs = {role: str(path) for role, path in job.inputs.items()}
    engine.handle(
        Start(
            run=name,
            job_id=job.job_id,
            request=job.request,
            backend=job.spec.backend,
            scratch=str(job.scratch),
            inputs=inputs,
        )
    )


def test_runs_pass_through_the_engine(tmp_path: Path) -> None:
    """One ends, one is cancelled in the middle, one asks for what is not here; nobody disturbs the others."""
    folder, spec = build(tmp_path / "acestep-v15-turbo"), spec_of()
    told: list[FromEngine] = []
    factory = AceStepFactory(spec, ModelConfig(model_dir=tmp_path, precision=Precision.Float32))
    engine = Engine(
        {spec.backend: factory}, device="cpu", budget_bytes=BUDGET, send=told.append, progress_every_sec=0.0
    )
    wanted = job_of(spec, tmp_path, inference_steps=6)
    start(engine, "kept", wanted)
    start(engine, "cancelled", job_of(spec, tmp_path, seed=8, inference_steps=6))
    start(engine, "impossible", job_of(spec, tmp_path, lora="none"))
    for _ in range(4):
        engine.tick()
    engine.handle(Cancel(run="cancelled"))
    while engine.tick():
        pass
    assert BackendStatus.Loading in [ready.backends[0].status for ready in told if isinstance(ready, Ready)]
    [failed] = [message for message in told if isinstance(message, Failed)]
    assert (failed.run, failed.error.code) == ("impossible", ErrorCode.INVALID_OPTION)
    [cancelled] = [message for message in told if isinstance(message, Cancelled)]
    assert cancelled.run == "cancelled"
    assert 0 < cancelled.current_step < cancelled.total_steps
    [finished] = [message for message in told if isinstance(message, Finished)]
    [alone] = play(load(folder, slots=1), wanted)
    assert np.array_equal(np.load(finished.outputs[0].path), alone.audio["track"])
    seen = [message for message in told if isinstance(message, Progress) and message.run == "kept"]
    assert list(dict.fromkeys(message.stage for message in seen)) == [Stage.load, Stage.infer, Stage.decode]
    steps = [message.current_step for message in seen]
    assert steps == sorted(steps)
    engine.close()
