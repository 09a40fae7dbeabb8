"""A backend for tests of workers: a generation's prompt says how long its run takes, and how it goes wrong.

``steps=20 step_sec=0.05`` is a run of a second. ``at=3`` names the step before which it ``die=SEGV``s, ``exit=3``s,
``hang``s, or says ``raise`` or ``poison``; ``unless=PATH`` makes that happen only while PATH does not exist, and
creates it; ``when=PATH`` only while it does. ``silent`` makes no audio, so that nothing is stored.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from soundfleet_schemas import BackendSpec, BackendStatus, GenerationRequest, Kind
from soundfleet_worker.backends.contract import BackendFactory, EngineJob, Model, Output, Report, Run

SPEC = BackendSpec(
    backend="slow",
    kind=Kind.generate,
    type="slow",
    name="Slow",
    model_version="slow-1",
    sample_rate=8_000,
    licence="MIT",
    min_duration_sec=1,
    max_duration_sec=1_000,
)
BACKENDS = "tests.slow:SlowFactory"
"""For SOUNDFLEET_BACKENDS."""


class SlowFactory(BackendFactory):
    """Always there."""

    spec = SPEC

    def status(self) -> tuple[BackendStatus, str | None]:
        return BackendStatus.Ready, None

    def load(self, device: str, report: Report) -> Model:  # noqa: ARG002 - the contract's signature
        return SlowModel()


class SlowRun(Run):
    """A run that its prompt directs."""

    def __init__(self, job: EngineJob) -> None:
        self.job = job
        words = cast(GenerationRequest, job.request).prompt.split()
        self.wish = dict(word.partition("=")[::2] for word in words)
        self.total_steps = int(self.wish.get("steps", 1))

    @property
    def done(self) -> bool:
        return self.current_step >= self.total_steps


class SlowModel(Model):
    """Sleeps through its steps."""

    spec = SPEC
    max_runs = 64
    memory_bytes = 0

    def memory_of(self, job: EngineJob) -> int:  # noqa: ARG002 - the contract's signature
        return 0

    def begin(self, job: EngineJob) -> Run:
        return SlowRun(job)

    def step(self, runs: Sequence[Run]) -> None:
        for run in cast(Sequence[SlowRun], runs):
            if run.current_step == int(run.wish.get("at", 0)):
                _misbehave(run.wish)
        time.sleep(max(float(run.wish.get("step_sec", 0)) for run in cast(Sequence[SlowRun], runs)))
        for run in runs:
            run.current_step += 1

    def finish(self, run: Run) -> Output:
        wish = cast(SlowRun, run).wish
        audio = {} if "silent" in wish else {"track": np.full((2, 800), 0.25, dtype=np.float32)}
        return Output(audio, SPEC.sample_rate, {"prompt": cast(GenerationRequest, run.job.request).prompt})


def _misbehave(wish: dict[str, str]) -> None:
    if "when" in wish and not Path(wish["when"]).exists():
        return
    if "unless" in wish:
        path = Path(wish["unless"])
        if path.exists():
            return
        path.touch()
    if "die" in wish:
        os.kill(os.getpid(), signal.Signals[f"SIG{wish['die']}"])
    if "exit" in wish:
        sys.stderr.write("the last words\n")
        sys.stderr.flush()
        os._exit(int(wish["exit"]))
    if "hang" in wish:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # as code that holds the interpreter does
        time.sleep(3_600)
    if "poison" in wish:
        raise RuntimeError("CUDA error: device-side assert triggered")
    if "raise" in wish:
        raise RuntimeError("the model is unhappy")
