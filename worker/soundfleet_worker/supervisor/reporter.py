"""Progress of one run, told to the queue at every 5 points, every change of stage, and every 5 seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from soundfleet_producer.queue.verbs import Reply, report
from soundfleet_schemas import Keys, ProgressUpdate, Stage

from .batcher import Batcher
from .outcome import Stop
from .run import Run

POINTS = 5
EVERY_SEC = 5.0
HOLD_SEC = 0.05
"""News waits this long for newer news, so that a run of a few milliseconds is not reported at all."""


class News(NamedTuple):
    """Where a run stands; ``eta_sec`` is asked when the news is sent."""

    stage: Stage
    current_step: int
    total_steps: int
    eta_sec: Callable[[], float | None]


class Reporter:
    """Sends the news of one run, and hears in the replies whether the run is still wanted."""

    def __init__(self, run: Run, keys: Keys, batcher: Batcher) -> None:
        self._run = run
        self._keys = keys
        self._batcher = batcher
        self._news: News | None = None
        self._told: tuple[Stage | None, int] = (None, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._soon = False
        self.track_id = ""

    def tell(self, news: News) -> None:
        """Take the newest news."""
        self._news = news
        stage, points = self._told
        if not self._soon and (news.stage is not stage or abs(_points(news) - points) >= POINTS):
            self._soon = True
            self._after(HOLD_SEC)

    def close(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _after(self, delay_sec: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_sec, self._send)

    def _send(self) -> None:
        news = self._news
        assert news is not None
        self._told = (news.stage, _points(news))
        self._soon = False
        update = ProgressUpdate(
            track_id=self.track_id,
            percent=_percent(news),
            current_step=news.current_step,
            total_steps=news.total_steps,
            eta_sec=news.eta_sec(),
            stage=news.stage,
        )
        answer = asyncio.ensure_future(self._batcher.perform(report(self._keys, self._run.token, update)))
        answer.add_done_callback(self._heard)
        self._after(EVERY_SEC)

    def _heard(self, answer: asyncio.Future[Reply]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return  # Redis is away: the lease is what counts, and progress comes again
        obey(self._run, answer.result())


def obey(run: Run, reply: Reply) -> None:
    """Stop a run that the server says is cancelled, or another's."""
    if reply is Reply.cancel:
        run.stop(Stop.cancelled)
    elif reply is Reply.superseded:
        run.stop(Stop.lost)


def _percent(news: News) -> int:
    """Share of the work done; 100 is said only by the settlement. What is fetched is not worked on yet."""
    match news.stage:
        case Stage.fetch | Stage.load:
            return 0
        case Stage.deliver:
            return 99
        case _:
            return _points(news)


def _points(news: News) -> int:
    """Share of the stage's steps done."""
    return min(99, 100 * news.current_step // news.total_steps) if news.total_steps else 0
