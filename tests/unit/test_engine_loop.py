"""The engine's loop: admit, step, report, collect."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.desk import Desk

from soundfleet_schemas import BackendStatus, Stage
from soundfleet_worker.engine.wire import Cancel, Cancelled, Finished, Look, Progress, Ready, Shutdown, ToEngine


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


def test_models_share_the_time_not_the_steps(tmp_path: Path) -> None:
    """A model with quick steps makes many of them while a slow one makes one; time not used is not saved up."""
    desk = Desk(tmp_path, names=("count", "slow"))
    desk.factories["slow"].step_sec = 1.0
    desk.count.step_sec = 0.1
    shared = desk.factories["slow"].log = desk.count.log
    desk.open()
    desk.start("slow", "x 10", backend="slow")
    for _ in range(5):
        desk.engine.tick()
    desk.start("quick", "x 30")
    desk.finish_all()
    steps = [entry.removeprefix("step ") for entry in shared if entry.startswith("step")]
    at = steps.index("quick")
    assert at <= 6
    shares = steps[at : steps.index("quick", at + 29) + 1]
    assert 2 <= shares.count("slow") <= 4


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


def test_a_backend_that_is_installed_later_is_noticed(desk: Desk) -> None:
    """Somebody pulls a model while the engine runs, and the supervisor says so, or the next look finds it."""
    desk.count.installed = (BackendStatus.NotInstalled, "pull it")
    desk.open()
    desk.engine.look_again()
    assert desk.said == []
    desk.count.installed = (BackendStatus.Ready, None)
    desk.engine.handle(Look())
    assert desk.of(Ready)[0].backends[0].status is BackendStatus.Ready


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
    assert desk.of(Ready)[0].budget_mb > 0


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


def test_shutdown_drops_everything(desk: Desk) -> None:
    """Runs are discarded, models closed."""
    desk.open()
    desk.start("a", "x 5")
    desk.engine.tick()
    desk.engine.handle(Shutdown())
    assert desk.engine.stopped
    desk.engine.close()
    assert desk.count.log[-2:] == ["discard a", "close count"]


def test_a_cancel_that_comes_during_a_load_is_heard_before_a_run_begins_or_steps(tmp_path: Path) -> None:
    """Of the run that is loaded for, and of one of another model: their files may be gone."""
    desk = Desk(tmp_path, names=("count", "other"))
    desk.open()
    desk.start("a", "x 3")
    desk.engine.tick()
    come: list[ToEngine] = []
    desk.factories["other"].before_load = lambda: come.extend([Cancel(run="a"), Cancel(run="b")])
    desk.engine._receive = lambda: [come.pop() for _ in list(come)]
    desk.start("b", backend="other")
    desk.start("c", backend="other")
    desk.finish_all()
    assert desk.ends() == {"a": "Cancelled", "b": "Cancelled", "c": "Finished"}
    assert desk.count.log == ["load", "begin a", "step a", "discard a"]
    assert desk.factories["other"].log == ["load", "begin c", "step c", "finish c"]


def test_who_waits_for_a_place_is_not_told_to_load_any_more(desk: Desk) -> None:
    """After the load the others wait in stage infer, at step 0."""
    desk.count.max_runs = 1
    desk.open()
    for name in "abc":
        desk.start(name, "x 9")
    desk.engine.tick()
    assert [(m.stage, m.current_step) for m in desk.of(Progress, "c")] == [(Stage.load, 0), (Stage.infer, 0)]
    assert [m.stage for m in desk.of(Progress, "a")].count(Stage.load) == 1
