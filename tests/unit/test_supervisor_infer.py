"""What a follower makes of the engine's messages: news, and an estimate that is right where the steps differ."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from soundfleet_schemas import Stage
from soundfleet_worker.engine.wire import Progress
from soundfleet_worker.supervisor import clock
from soundfleet_worker.supervisor.infer import Follower
from soundfleet_worker.supervisor.pace import Pace, Speed
from soundfleet_worker.supervisor.reporter import News

TOTAL = 100


class Desk:
    """A clock that is set by hand, and a follower whose estimates are kept with what turned out to be true."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sec, self.pace = 0.0, Pace()
        self.told: list[tuple[float, float | None]] = []
        monkeypatch.setattr(clock, "now", lambda: self.sec)

    def tell(self, news: News) -> None:
        self.told.append((self.sec, news.eta_sec()))

    def follower(self, current_step: int = 0) -> Follower:
        """One of a run that stands at this step."""
        run = SimpleNamespace(stage=Stage.prepare, current_step=current_step, total_steps=TOTAL)
        work, tools = SimpleNamespace(audio_sec=0.0, files=0), SimpleNamespace(pace=self.pace)
        return Follower(cast(Any, run), cast(Any, work), cast(Any, self), cast(Any, tools))

    def follow(self, took_sec: Callable[[int], float]) -> list[tuple[float, float | None]]:
        """Play a run whose every step takes as long as it is said; returns true and estimated seconds left."""
        follower = self.follower()
        for step in range(TOTAL):
            follower(Progress(run="r", stage=Stage.infer, current_step=step, total_steps=TOTAL))
            self.sec += took_sec(step)
        end = self.sec + self.pace.deliver_sec(0.0)
        return [(end - sec, eta_sec) for sec, eta_sec in self.told]


def after(share: float, told: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """What was told when this share of the time had passed."""
    whole = told[0][0]
    return [(left, eta) for left, eta in told if left <= (1 - share) * whole]


def test_what_a_model_foretells_is_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows what its steps cost. Between two news time is taken off, but no more than lay between the last ones."""
    desk = Desk(monkeypatch)
    follower, deliver_sec = desk.follower(), desk.pace.deliver_sec(0.0)
    for step, left_sec in enumerate((100.0, 60.0, 50.0)):
        desk.sec = 10.0 * step
        follower(Progress(run="r", stage=Stage.infer, current_step=step, total_steps=TOTAL, left_sec=left_sec))
    assert desk.told[-1][1] == pytest.approx(50.0 + deliver_sec, abs=0.1)
    desk.sec = 24.0
    assert follower._eta_sec() == pytest.approx(46.0 + deliver_sec, abs=0.1)
    desk.sec = 90.0
    assert follower._eta_sec() == pytest.approx(40.0 + deliver_sec, abs=0.1)


def test_waiting_for_a_place_is_not_taken_for_slowness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose model takes no further run waits in stage infer, with no steps known."""
    desk = Desk(monkeypatch)
    follower, deliver_sec = desk.follower(), desk.pace.deliver_sec(0.0)
    follower(Progress(run="r", stage=Stage.infer, current_step=0, total_steps=0))
    desk.sec = 500.0
    for step in range(3):
        follower(Progress(run="r", stage=Stage.infer, current_step=step, total_steps=TOTAL))
        desk.sec += 1.0
    assert desk.told[-1][1] == pytest.approx(98.0 + deliver_sec, abs=0.1)


def test_company_that_has_left_is_soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times as slow for the first quarter of the steps; in the middle of the time all is right."""
    told = Desk(monkeypatch).follow(lambda step: 0.4 if step < 25 else 0.1)
    assert all(eta == pytest.approx(left, rel=0.2, abs=0.2) for left, eta in after(0.65, told))


def test_what_is_left_is_unknown_until_a_step_was_seen() -> None:
    """Ten steps in five seconds leave ten seconds for twenty."""
    speed = Speed()
    assert speed.left_sec(100.0, 30) is None
    speed.heard(100.0, 0, 30)
    assert speed.left_sec(105.0, 30) is None
    speed.heard(105.0, 10, 30)
    assert speed.left_sec(105.0, 20) == 10.0


@pytest.mark.parametrize("heard", [0, 40])
def test_a_long_wait_for_a_slot_is_forgotten_by_the_middle(heard: int) -> None:
    """A minute passed in which no step was made, before the first or after the source was heard; then ten a second."""
    speed = Speed()
    for step in range(heard + 1):
        speed.heard(step / 10, step, 1000)
    for step in range(heard + 1, 1000):
        now = 60.0 + step / 10
        speed.heard(now, step, 1000)
        if step >= 500:
            assert speed.left_sec(now, 1000 - step) == pytest.approx((1000 - step) / 10, rel=0.2)


def test_between_two_steps_time_is_taken_off_and_a_late_step_is_not_explained_away() -> None:
    """Eight steps of 10 s: half way through the fifth 35 s are left; when it takes 30 s, the next ones will, too."""
    speed = Speed()
    for step in range(5):
        speed.heard(10.0 * step, step, 8)
    assert speed.left_sec(40.0, 4) == pytest.approx(40.0)
    assert speed.left_sec(45.0, 4) == pytest.approx(35.0)
    assert speed.left_sec(50.0, 4) == pytest.approx(30.0)
    late = speed.left_sec(70.0, 4)
    assert late is not None
    assert late > 35.0


@pytest.mark.parametrize("foretold", [None, 5.0])
def test_a_run_that_is_begun_again_is_measured_again(monkeypatch: pytest.MonkeyPatch, foretold: float | None) -> None:
    """What it did on an engine that died says nothing of what is left."""
    desk = Desk(monkeypatch)
    follower = desk.follower()
    for step, left_sec in ((10, foretold), (50, foretold), (0, None)):
        desk.sec += 1.0
        follower(Progress(run="r", stage=Stage.infer, current_step=step, total_steps=TOTAL, left_sec=left_sec))
    assert [told is None for _, told in desk.told] == [foretold is None, False, True]
