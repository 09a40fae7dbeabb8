"""The engine's loop, without a process, a device or real time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundfleet_schemas import BackendSpec, BackendStatus, ErrorCode, GenerationRequest, Kind, Stage, error
from soundfleet_worker.backends.contract import BackendFactory, EngineJob, Model, Output, Report, Run
from soundfleet_worker.engine.devices import MEGABYTE
from soundfleet_worker.engine.faults import Poisoned
from soundfleet_worker.engine.loop import Engine
from soundfleet_worker.engine.wire import (
    Cancel,
    Cancelled,
    Failed,
    Finished,
    FromEngine,
    Progress,
    Ready,
    Shutdown,
    Start,
)


class CountRun(Run):
    """Takes as many steps as its prompt says."""

    def __init__(self, job: EngineJob) -> None:
        self.job = job
        assert isinstance(job.request, GenerationRequest)
        self.word, _, steps = job.request.prompt.partition(" ")
        self.total_steps = int(steps or 1)

    @property
    def done(self) -> bool:
        return self.current_step >= self.total_steps


class CountModel(Model):
    """Remembers what it was asked; ``before_step`` and ``before_begin`` may raise."""

    def __init__(self, factory: CountFactory) -> None:
        self.spec, self.factory = factory.spec, factory
        self.max_runs, self.memory_bytes = factory.max_runs, factory.spec.memory_mb * MEGABYTE
        self.slots = factory.slots

    def memory_of(self, job: EngineJob) -> int:  # noqa: ARG002
        return self.factory.run_mb * MEGABYTE

    def begin(self, job: EngineJob) -> Run:
        self.factory.before_begin(job)
        self.factory.log.append(f"begin {job.job_id}")
        return CountRun(job)

    def step(self, runs: Sequence[Run]) -> None:
        assert all(not run.done for run in runs)
        names = [run.job.job_id for run in runs]
        self.factory.clock.now += self.factory.step_sec
        self.factory.before_step(names, self.slots)
        self.factory.log.append(f"step {' '.join(names)}")
        for run in runs:
            run.current_step += 1

    def shrink(self) -> bool:
        if self.slots == 1:
            return False
        self.slots //= 2
        return True

    def finish(self, run: Run) -> Output:
        self.factory.log.append(f"finish {run.job.job_id}")
        return Output(self.factory.audio(), 8_000, {"steps": run.total_steps})

    def discard(self, run: Run) -> None:
        self.factory.log.append(f"discard {run.job.job_id}")

    def close(self) -> None:
        self.factory.log.append(f"close {self.spec.backend}")


class CountFactory(BackendFactory):
    """A backend that a test shapes by setting its fields."""

    def __init__(self, clock: Clock, name: str = "count", memory_mb: int = 10) -> None:
        self.spec = BackendSpec(
            backend=name,
            kind=Kind.generate,
            type="test",
            name=name,
            model_version="1",
            sample_rate=8_000,
            licence="",
            min_duration_sec=1,
            max_duration_sec=9,
            memory_mb=memory_mb,
        )
        self.clock = clock
        self.log: list[str] = []
        self.max_runs, self.run_mb, self.slots, self.step_sec = 4, 1, 1, 0.001
        self.installed: tuple[BackendStatus, str | None] = (BackendStatus.Ready, None)
        self.before_load: Callable[[], None] = lambda: None
        self.before_begin: Callable[[EngineJob], None] = lambda _job: None
        self.before_step: Callable[[list[str], int], None] = lambda _names, _slots: None
        self.audio: Callable[[], dict[str, Any]] = dict

    def status(self) -> tuple[BackendStatus, str | None]:
        return self.installed

    def load(self, device: str, report: Report) -> Model:  # noqa: ARG002
        self.before_load()
        self.log.append("load")
        return CountModel(self)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """An engine with its factories and everything that it has said."""

    def __init__(self, scratch: Path, budget_mb: int = 1000, names: Sequence[str] = ("count",)) -> None:
        self.clock, self.said, self.scratch = Clock(), list[FromEngine](), scratch
        self.factories = {name: CountFactory(self.clock, name) for name in names}
        self.budget_mb = budget_mb

    def open(self) -> Engine:
        self.engine = Engine(
            self.factories,
            device="cpu",
            budget_bytes=self.budget_mb * MEGABYTE,
            send=self.said.append,
            clock=self.clock,
        )
        return self.engine

    @property
    def count(self) -> CountFactory:
        return self.factories["count"]

    def start(self, name: str, prompt: str = "x", backend: str = "count") -> None:
        request = GenerationRequest(prompt=prompt, duration_sec=5, backend=backend)
        self.engine.handle(Start(run=name, job_id=name, request=request, backend=backend, scratch=str(self.scratch)))

    def finish_all(self, ticks: int = 200) -> None:
        while self.engine.tick():
            ticks -= 1
            assert ticks, "the engine never comes to rest"

    def of(self, kind: type[FromEngine], run: str | None = None) -> list[Any]:
        return [m for m in self.said if isinstance(m, kind) and (run is None or getattr(m, "run", None) == run)]

    def ends(self) -> dict[str, str]:
        """How each run ended: Finished, Cancelled, or the error's code."""
        found: dict[str, str] = {}
        for message in self.said:
            if isinstance(message, Finished | Cancelled | Failed):
                assert message.run not in found, f"{message.run} ended twice"
                found[message.run] = message.error.code if isinstance(message, Failed) else type(message).__name__
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An engine with one backend, not yet open."""
    return Desk(tmp_path)


def test_a_run_begins_steps_and_finishes(desk: Desk) -> None:
    """With its parameters, and the order of calls that the contract promises."""
    desk.open()
    desk.start("a", "x 3")
    desk.finish_all()
    assert desk.count.log == ["load", "begin a", "step a", "step a", "step a", "finish a"]
    [end] = desk.of(Finished)
    assert (end.run, end.outputs, end.parameters) == ("a", (), {"steps": 3})
    assert end.infer_sec == pytest.approx(0.003)


def test_runs_are_stepped_together(desk: Desk) -> None:
    """A run may join and leave between any two steps."""
    desk.open()
    desk.start("a", "x 3")
    desk.engine.tick()
    desk.start("b", "x 1")
    desk.finish_all()
    assert desk.count.log == ["load", "begin a", "step a", "begin b", "step a b", "finish b", "step a", "finish a"]


def test_no_more_runs_than_the_model_takes(desk: Desk) -> None:
    """The others wait in the order of their arrival."""
    desk.count.max_runs = 2
    desk.open()
    for name in "abcde":
        desk.start(name)
    desk.finish_all()
    assert [entry for entry in desk.count.log if entry.startswith("step")] == ["step a b", "step c d", "step e"]


def test_models_take_turns(tmp_path: Path) -> None:
    """A long run of one model does not hold up another model's."""
    desk = Desk(tmp_path, names=("count", "other"))
    shared = desk.factories["other"].log = desk.count.log
    desk.open()
    desk.start("a", "x 5")
    desk.start("b", "x 2", backend="other")
    desk.finish_all()
    steps = [entry.removeprefix("step ") for entry in shared if entry.startswith("step")]
    assert steps == ["a", "b", "a", "b", "a", "a", "a"]


def test_what_waits_for_memory_is_not_overtaken(tmp_path: Path) -> None:
    """A stream of small runs of another model cannot starve a large one."""
    desk = Desk(tmp_path, budget_mb=40, names=("count", "large"))
    desk.factories["large"].run_mb = 15
    desk.open()
    desk.start("a", "x 2")
    desk.engine.tick()
    desk.factories["large"].run_mb = 25
    desk.start("big", backend="large")
    desk.engine.tick()
    for name in "bcd":
        desk.start(name, "x 2")
    desk.finish_all()
    assert desk.ends() == dict.fromkeys(["a", "big", "b", "c", "d"], "Finished")
    order = [m.run for m in desk.said if isinstance(m, Finished)]
    assert order.index("big") < order.index("b")


def test_the_least_recently_used_idle_model_is_evicted(tmp_path: Path) -> None:
    """And a model with active runs never is."""
    desk = Desk(tmp_path, budget_mb=25, names=("count", "second", "third"))
    desk.open()
    for name in ("count", "second", "third", "second"):
        desk.clock.now += 1
        desk.start(f"run of {name} at {desk.clock.now:g}", backend=name)
        desk.finish_all()
    assert desk.count.log[-1] == "close count"
    assert "close second" not in desk.factories["second"].log
    assert set(desk.ends().values()) == {"Finished"}


def test_a_run_that_fits_no_budget_fails(desk: Desk) -> None:
    """It names what is needed and what there is, and the next one runs."""
    desk.count.run_mb = 2000
    desk.open()
    desk.start("a")
    desk.engine.tick()
    desk.count.run_mb = 1
    desk.start("b")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.OUT_OF_MEMORY, "b": "Finished"}
    assert "2,010 MB" in desk.of(Failed)[0].error.message


def test_out_of_memory_first_shrinks_the_launch(desk: Desk) -> None:
    """Nobody fails while the model can make its launches smaller."""

    def tight(_names: list[str], slots: int) -> None:
        if slots > 2:
            raise MemoryError

    desk.count.slots, desk.count.before_step = 8, tight
    desk.open()
    desk.start("a", "x 2")
    desk.start("b", "x 2")
    desk.finish_all()
    assert set(desk.ends().values()) == {"Finished"}


def test_out_of_memory_then_halves_the_runs(desk: Desk) -> None:
    """All get through in smaller groups, none waits for ever."""

    def tight(names: list[str], _slots: int) -> None:
        if len(names) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")

    desk.count.before_step = tight
    desk.open()
    for name in "abcd":
        desk.start(name, "x 2")
    desk.finish_all()
    assert desk.ends() == dict.fromkeys("abcd", "Finished")


def test_a_single_run_that_never_fits_fails_out_of_memory(desk: Desk) -> None:
    """The others go on."""

    def tight(names: list[str], _slots: int) -> None:
        if "b" in names:
            raise MemoryError("no room for b")

    desk.count.before_step = tight
    desk.open()
    for name in "abc":
        desk.start(name, "x 2")
    desk.finish_all()
    assert desk.ends() == {"a": "Finished", "b": ErrorCode.OUT_OF_MEMORY, "c": "Finished"}


def test_one_bad_run_does_not_disturb_the_others(desk: Desk) -> None:
    """A launch that fails is repeated run by run, to find the one to blame."""

    def picky(names: list[str], _slots: int) -> None:
        if "b" in names:
            raise ZeroDivisionError("b is bad")

    desk.count.before_step = picky
    desk.open()
    for name in "abc":
        desk.start(name, "x 2")
    desk.finish_all()
    assert desk.ends() == {"a": "Finished", "b": ErrorCode.MODEL_INFERENCE_FAILED, "c": "Finished"}
    [failed] = desk.of(Failed)
    assert "b is bad" in failed.error.message
    assert "ZeroDivisionError" in failed.detail
    assert "discard b" in desk.count.log


def test_an_error_raised_on_purpose_keeps_its_code(desk: Desk) -> None:
    """What a backend says by name is what the job hears."""

    def refuse(_job: EngineJob) -> None:
        raise error(ErrorCode.AUDIO_EMPTY, "nothing to hear")

    desk.count.before_begin = refuse
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.AUDIO_EMPTY}


def test_out_of_memory_while_beginning_waits_for_the_others(desk: Desk) -> None:
    """The run begins when theirs have left; alone it would fail."""

    def crowded(job: EngineJob) -> None:
        if job.job_id == "b" and "finish a" not in desk.count.log:
            raise MemoryError

    desk.count.before_begin = crowded
    desk.open()
    desk.start("a", "x 3")
    desk.start("b")
    desk.finish_all()
    assert desk.ends() == {"a": "Finished", "b": "Finished"}


@pytest.mark.parametrize(
    "words", ["CUDA error: device-side assert triggered", "an illegal memory access was encountered"]
)
def test_a_broken_device_poisons_the_engine(desk: Desk, words: str) -> None:
    """Every run of the launch hears of it, and the process must end."""

    def broken(_names: list[str], _slots: int) -> None:
        raise RuntimeError(words)

    desk.count.before_step = broken
    desk.open()
    desk.start("a")
    desk.start("b")
    with pytest.raises(Poisoned):
        desk.engine.tick()
    assert [(m.run, m.error.code, m.poisoned) for m in desk.of(Failed)] == [
        ("a", ErrorCode.DEVICE_FAILED, True),
        ("b", ErrorCode.DEVICE_FAILED, True),
    ]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_cancel_acts_between_steps(desk: Desk, steps: int) -> None:
    """Waiting or running, it is answered once, with how far the run came."""
    desk.open()
    desk.start("a", "x 3")
    for _ in range(steps):
        desk.engine.tick()
    desk.engine.handle(Cancel(run="a"))
    desk.finish_all()
    [answer] = desk.of(Cancelled)
    assert answer.current_step == steps
    assert ("discard a" in desk.count.log) == (steps > 0)


def test_cancel_of_a_run_that_has_ended_is_not_answered(desk: Desk) -> None:
    """Its Finished came first."""
    desk.open()
    desk.start("a")
    desk.finish_all()
    desk.engine.handle(Cancel(run="a"))
    assert desk.ends() == {"a": "Finished"}


def test_a_repeated_start_is_the_same_run(desk: Desk) -> None:
    """It is not run twice."""
    desk.open()
    desk.start("a")
    desk.start("a")
    desk.finish_all()
    assert desk.count.log.count("begin a") == 1


def test_an_unknown_backend_fails_the_run_only(desk: Desk) -> None:
    """The error lists what there is."""
    desk.open()
    desk.start("a", backend="nope")
    assert desk.ends() == {"a": ErrorCode.BACKEND_NOT_READY}
    assert "count" in desk.of(Failed)[0].error.message


def test_a_model_that_cannot_be_loaded_fails_its_runs(desk: Desk) -> None:
    """Its status says why, and it is tried again for the next run."""

    def broken() -> None:
        raise SystemExit("fatal: no such file")

    desk.count.before_load = broken
    desk.open()
    desk.start("a")
    desk.start("b")
    desk.finish_all()
    assert set(desk.ends().values()) == {ErrorCode.MODEL_LOAD_FAILED}
    backend = desk.of(Ready)[-1].backends[0]
    assert backend.status is BackendStatus.Error
    assert "no such file" in backend.message
    desk.count.before_load = lambda: None
    desk.start("c")
    desk.finish_all()
    assert desk.ends()["c"] == "Finished"
    assert desk.of(Ready)[-1].backends[0].status is BackendStatus.Ready


def test_a_backend_that_is_not_installed_says_what_to_do(desk: Desk) -> None:
    """BACKEND_NOT_READY carries the reason."""
    desk.count.installed = (BackendStatus.NotInstalled, "pip install something")
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.BACKEND_NOT_READY}
    assert "pip install something" in desk.of(Failed)[0].error.message


def test_out_of_memory_while_loading_evicts_and_tries_again(tmp_path: Path) -> None:
    """Idle models leave before a load is given up."""
    desk = Desk(tmp_path, names=("count", "second"))

    def tight() -> None:
        if "close count" not in desk.count.log:
            raise MemoryError

    desk.factories["second"].before_load = tight
    desk.open()
    desk.start("a")
    desk.finish_all()
    desk.start("b", backend="second")
    desk.finish_all()
    assert desk.ends() == {"a": "Finished", "b": "Finished"}


def test_statuses_are_told_as_they_change(desk: Desk) -> None:
    """Ready first; then loading, and ready again."""
    desk.open().announce()
    desk.start("a")
    desk.finish_all()
    assert [m.backends[0].status for m in desk.of(Ready)] == [
        BackendStatus.Ready,
        BackendStatus.Loading,
        BackendStatus.Ready,
    ]
    assert desk.of(Ready)[0].specs == (desk.count.spec,)


def test_progress_is_throttled(desk: Desk) -> None:
    """A thousand steps in a second come to about twenty messages, in order."""
    desk.open()
    desk.start("a", "x 1000")
    desk.finish_all(ticks=1100)
    steps = [m.current_step for m in desk.of(Progress) if m.stage is Stage.infer]
    assert 15 <= len(steps) <= 25
    assert steps == sorted(set(steps))


def test_a_quick_run_says_nothing_but_its_end(desk: Desk) -> None:
    """Once the model is known to be quick: thousands of small runs would drown the socket."""
    desk.open()
    desk.start("a")
    desk.finish_all()
    desk.said.clear()
    desk.start("b")
    desk.finish_all()
    assert [type(m) for m in desk.said] == [Finished]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_fail_the_run(desk: Desk, bad: float) -> None:
    """One is enough."""
    audio = np.zeros((2, 1000), dtype=np.float32)
    audio[1, 500] = bad
    desk.count.audio = lambda: {"track": audio}
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.MODEL_INFERENCE_FAILED}


def test_output_is_written_to_scratch(desk: Desk) -> None:
    """As .npy of float32, (channels, samples)."""
    audio = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    desk.count.audio = lambda: {"track": audio}
    desk.open()
    desk.start("a")
    desk.finish_all()
    [file] = desk.of(Finished)[0].outputs
    assert (file.name, Path(file.path).parent) == ("track", desk.scratch)
    np.testing.assert_array_equal(np.load(file.path), audio)


def test_output_that_is_already_mapped_there_is_not_written_again(desk: Desk) -> None:
    """A view of a part of such a file is."""
    mapped = np.lib.format.open_memmap(desk.scratch / "track.npy", mode="w+", dtype=np.float32, shape=(2, 100))
    mapped[:] = 1.0
    before = (desk.scratch / "track.npy").stat().st_ino, mapped.shape
    desk.count.audio = lambda: {"track": mapped, "part": mapped[:, :10]}
    desk.open()
    desk.start("a")
    desk.finish_all()
    track, part = (np.load(file.path) for file in desk.of(Finished)[0].outputs)
    assert ((desk.scratch / "track.npy").stat().st_ino, track.shape) == before
    assert part.shape == (2, 10)


def test_output_of_another_shape_is_the_backends_fault(desk: Desk) -> None:
    """Doubles, or a flat array, are refused."""
    desk.count.audio = lambda: {"track": np.zeros(100)}
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.MODEL_INFERENCE_FAILED}


def test_a_full_scratch_says_what_to_do(desk: Desk) -> None:
    """The path of the scratch is in the error."""
    desk.scratch = desk.scratch / "gone"
    desk.count.audio = lambda: {"track": np.zeros((1, 8), dtype=np.float32)}
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.INTERNAL_ERROR}
    assert "SOUNDFLEET_SCRATCH_DIR" in desk.of(Failed)[0].error.action


def test_shutdown_drops_everything(desk: Desk) -> None:
    """Runs are discarded, models closed."""
    desk.open()
    desk.start("a", "x 5")
    desk.engine.tick()
    desk.engine.handle(Shutdown())
    assert desk.engine.stopped
    desk.engine.close()
    assert desk.count.log[-2:] == ["discard a", "close count"]
