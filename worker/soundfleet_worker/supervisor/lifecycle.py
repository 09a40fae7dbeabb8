"""One job's life on one screen: claim -> prepare -> infer -> deliver -> settle, or claim -> fetch -> settle."""

from __future__ import annotations

import asyncio
import traceback

from soundfleet_schemas import ErrorCode, SoundfleetError, Stage, error

from ..backends.scratch import is_full, scratch_full
from .assignment import EngineFailed
from .deliver import deliver
from .fetching import fetch
from .infer import infer
from .obtain import obtain
from .outcome import Failed, Outcome
from .prepare import Work, prepare
from .reporter import News, Reporter
from .result import Bill
from .run import Run
from .settle import settle
from .sources import Unfinished
from .tools import Tools


async def live(run: Run, tools: Tools) -> None:
    """Bring a claimed job to its settlement."""
    reporter = Reporter(run, tools.keys, tools.batcher)
    outcome = await _attempt(run, reporter, tools)
    reporter.close()
    await settle(run, outcome, tools)


async def _attempt(run: Run, reporter: Reporter, tools: Tools) -> Outcome:
    """Do the work; whatever happens is a value."""
    try:
        run.begin()
        if run.fetches:
            return await fetch(run, reporter, tools)
        bill = Bill(run, tools.meter)
        reporter.tell(News(Stage.prepare, 0, 0, lambda: None))
        work = await prepare(run, tools)
        if not isinstance(work, Work):
            return work
        bill.prepared()
        reporter.track_id = work.fingerprint or ""
        await obtain(run, work, reporter, tools)
        made = await infer(run, work, reporter, tools)
        return await deliver(run, work, made, bill, reporter, tools)
    except asyncio.CancelledError:
        if run.stop_reason is None:  # not ours: the whole process is being torn down
            raise
        return run.stop_reason
    except EngineFailed as exc:
        return Failed(exc.info, exc.detail)
    except Unfinished as exc:
        return Failed(exc.info, waits_for=exc.job_id)
    except SoundfleetError as exc:
        return Failed(exc.info)
    except Exception as exc:  # a defect of ours fails one job with its traceback, and never the worker
        if is_full(exc):
            return Failed(scratch_full(exc).info)
        info = error(ErrorCode.INTERNAL_ERROR, f"{run.stage}: {type(exc).__name__}: {exc}").info
        return Failed(info, traceback.format_exc())
    finally:
        run.end()
