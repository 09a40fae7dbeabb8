"""Who begins next while a run waits for memory."""

from __future__ import annotations

from pathlib import Path

from tests.unit.desk import Desk

from soundfleet_schemas import Stage
from soundfleet_worker.engine.wire import Finished, Progress


def test_what_waits_for_memory_is_not_overtaken(tmp_path: Path) -> None:
    """A stream of small runs of another model cannot starve a large one."""
    desk = Desk(tmp_path, budget_mb=40, names=("count", "large"))
    desk.open()
    desk.start("a", "x 6")
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


def test_a_small_run_passes_one_that_waits_for_memory_when_it_fits_beside_it(tmp_path: Path) -> None:
    """Not when it would be waited for: the large one begins as soon as what was there before it has left."""
    desk = Desk(tmp_path, budget_mb=100, names=("count", "large", "tiny"))
    desk.factories["large"].run_mb = desk.count.run_mb = 50
    desk.open()
    desk.start("a", "x 20")
    desk.engine.tick()
    desk.start("big", "x 5", backend="large")
    desk.engine.tick()
    desk.start("b", "x 2", backend="tiny")
    for _ in range(6):
        desk.engine.tick()
    assert desk.ends() == {"b": "Finished"}
    desk.factories["tiny"].run_mb = 19
    desk.start("long", "x 200", backend="tiny")
    desk.start("too many", "x 200", backend="tiny")
    while "a" not in desk.ends():
        desk.engine.tick()
    assert desk.factories["tiny"].log[-1].split() == ["step", "long"]
    while "big" not in desk.ends():
        desk.engine.tick()
    assert "long" not in desk.ends()
    desk.finish_all(ticks=1000)
    assert set(desk.ends().values()) == {"Finished"}


def test_runs_that_pass_never_hold_up_the_one_that_waits(tmp_path: Path) -> None:
    """An endless stream of them leaves it the room that it needs once the older runs are gone."""
    desk = Desk(tmp_path, budget_mb=100, names=("count", "large", "tiny"))
    desk.factories["large"].run_mb, desk.count.run_mb, desk.factories["tiny"].run_mb = 60, 40, 5
    desk.factories["tiny"].max_runs = 16
    desk.open()
    desk.start("a", "x 20")
    desk.engine.tick()
    desk.start("big", backend="large")
    count = 0
    while "big" not in desk.ends():
        desk.start(f"tiny {count}", "x 50", backend="tiny")
        desk.engine.tick()
        count += 1
        assert count < 100, "it starves"
    assert 0 < sum(entry.startswith("begin tiny") for entry in desk.factories["tiny"].log) < count
    desk.finish_all(ticks=10_000)
    assert set(desk.ends().values()) == {"Finished"}


def test_a_run_that_waits_for_room_for_its_model_is_not_said_to_load(tmp_path: Path) -> None:
    """Its stage changes once, when the load begins, however often it was looked at; nothing passes it."""
    desk = Desk(tmp_path, budget_mb=65, names=("count", "large", "tiny"))
    desk.count.run_mb, desk.factories["large"].run_mb = 50, 1
    desk.open()
    desk.start("a", "x 10")
    desk.engine.tick()
    desk.start("big", backend="large")
    desk.start("wide", backend="large")
    while "a" not in desk.ends():
        desk.start(f"tiny at {desk.clock.now}", backend="tiny")
        desk.engine.tick()
    desk.finish_all()
    assert set(desk.ends().values()) == {"Finished"}
    for run in ("big", "wide"):
        assert [m.stage for m in desk.of(Progress, run)].count(Stage.load) == 1
    assert desk.of(Finished)[0].run == "a"
