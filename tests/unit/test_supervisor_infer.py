"""What a follower makes of the engine's messages: news, and an estimate that is right where the stages differ."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from soundfleet_schemas import Stage
from soundfleet_worker.engine.wire import Progress
from soundfleet_worker.supervisor import clock
from soundfleet_worker.supervisor.infer import Follower
from soundfleet_worker.supervisor.pace import Pace
from soundfleet_worker.supervisor.reporter import News

TOTAL, DECODE = 100, 20
STEP_SEC, DECODE_STEP_SEC = 0.1, 2.0


class Desk:
    """A clock that is set by hand, and followers whose estimates are kept with what turned out to be true."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sec, self.pace = 0.0, Pace()
        self.told: list[tuple[Stage, float, float | None]] = []
        monkeypatch.setattr(clock, "now", lambda: self.sec)

    def tell(self, news: News) -> None:
        self.told.append((news.stage, self.sec, news.eta_sec()))

    def follow(self, waits_sec: float = 0.0) -> list[tuple[Stage, float, float | None]]:
        """Play a run whose decoding is slow, after a wait for a slot; returns stage, true and estimated seconds."""
        self.told = []
        run = SimpleNamespace(stage=Stage.prepare, current_step=0, total_steps=0)
        work = SimpleNamespace(spec=SimpleNamespace(backend="musicgen"), audio_sec=0.0, files=0)
        tools = SimpleNamespace(pace=self.pace)
        follower = Follower(cast(Any, run), cast(Any, work), cast(Any, self), cast(Any, tools))
        with self.pace.among("musicgen", cast(Any, run)):
            for step in range(TOTAL):
                stage = Stage.infer if step < TOTAL - DECODE else Stage.decode
                told = {"stage": stage, "current_step": step, "total_steps": TOTAL, "decode_steps": DECODE}
                follower(Progress(run="r", **told))
                self.sec += waits_sec if step == 0 else 0.0
                self.sec += STEP_SEC if stage is Stage.infer else DECODE_STEP_SEC
            follower.close()
        end = self.sec + self.pace.deliver_sec(0.0)
        return [(stage, end - sec, eta_sec) for stage, sec, eta_sec in self.told]


def test_the_first_run_says_nothing_false_in_the_stage_that_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has decoded yet; as soon as it does, it is seen how long that takes."""
    told = Desk(monkeypatch).follow()
    assert told[0][2] is None
    late = [(left, eta) for stage, left, eta in told[-DECODE + 1 :] if stage is Stage.decode]
    assert len(late) == DECODE - 1
    assert all(eta == pytest.approx(left, rel=0.2, abs=0.2) for left, eta in late)


@pytest.mark.parametrize("waits_sec", [0.0, 60.0])
def test_later_runs_are_estimated_right_from_their_middle_on(monkeypatch: pytest.MonkeyPatch, waits_sec: float) -> None:
    """However different the stages are, and however long it waited for a slot."""
    desk = Desk(monkeypatch)
    desk.follow()
    told = desk.follow(waits_sec)
    late = told[TOTAL // 2 :]
    assert {stage for stage, _, _ in late} == {Stage.infer, Stage.decode}
    assert all(eta == pytest.approx(left, rel=0.2, abs=0.2) for _, left, eta in late)


def test_decoding_is_foretold_by_who_will_decode_at_the_same_time() -> None:
    """0.1 s alone: four that draw together will decode together, and those that decode now will be gone by then."""
    pace = Pace()
    assert pace.decode_step_sec("musicgen", Stage.infer) is None
    pace.decoded("musicgen", 0.1)
    stages = [Stage.infer, Stage.infer, Stage.infer, Stage.infer, Stage.decode, Stage.decode]
    with ExitStack() as stack:
        for stage in stages:
            stack.enter_context(pace.among("musicgen", cast(Any, SimpleNamespace(stage=stage))))
        assert pace.decode_step_sec("musicgen", Stage.infer) == pytest.approx(0.4)
        assert pace.decode_step_sec("musicgen", Stage.decode) == pytest.approx(0.2)
    assert pace.decode_step_sec("musicgen", Stage.infer) == pytest.approx(0.1)
