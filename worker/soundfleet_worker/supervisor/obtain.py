"""Obtain: wait until the model that a run needs is on this machine."""

from __future__ import annotations

from soundfleet_schemas import SoundfleetError, Stage

from ..logging import Event
from ..models.pull import Fetched
from .prepare import Work
from .reporter import News, Reporter
from .run import Run
from .tools import Tools

KIBIBYTE = 1024
"""A step of the stage ``load`` while the model is downloaded."""


async def obtain(run: Run, work: Work, reporter: Reporter, tools: Tools) -> None:
    """Return when the engine can load the model, or must say itself why it cannot.

    Raises MODEL_LOAD_FAILED when the model cannot be had at all. When only this worker, or only now, cannot get it, the
    run is handed back uncharged: another worker may have it, and this one does not claim for it for a while.
    """
    name = work.spec.backend
    if tools.installer.has(name):
        return
    run.stage = Stage.load

    def tell(fetched: Fetched) -> None:
        reporter.tell(News(Stage.load, fetched.done_bytes // KIBIBYTE, fetched.total_bytes // KIBIBYTE, lambda: None))

    tell(Fetched("", 0, 0))
    try:
        await tools.installer.ensure(name, tell)
    except SoundfleetError as exc:
        if not exc.info.retryable:
            raise
        run.log.warning(Event.model_missing, backend=name, error=str(exc))
        run.hand_back(exc.info)
