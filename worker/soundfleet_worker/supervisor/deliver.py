"""Deliver: encode the engine's arrays, judge them, upload the files, and the manifest last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from soundfleet_schemas import BitDepth, OutputFormat, Stage, encode
from soundfleet_schemas.options import OutputPlan

from ..engine.wire import Finished, OutputFile
from . import clock
from .encoding import Delivered, as_float, encode_file, first_over, kept_rate, plan_of
from .judging import Evidence, Judged, judge, open_evidence
from .outcome import Completed
from .prepare import Work
from .reporter import News, Reporter
from .result import Bill, result_of
from .run import Run
from .together import all_of
from .tools import Tools

if TYPE_CHECKING:
    from ..audio.encode import Rate

CONTENT_TYPES = {OutputFormat.wav: "audio/wav", OutputFormat.flac: "audio/flac", OutputFormat.mp3: "audio/mpeg"}
JSON = "application/json"
MANIFEST = "manifest.json"


async def deliver(run: Run, work: Work, made: Finished, bill: Bill, reporter: Reporter, tools: Tools) -> Completed:
    """Store the output under this attempt's own prefix; nothing of it is visible until it is settled.

    Raises STORAGE_UNAVAILABLE or STORAGE_REFUSED. A run that made no audio has nothing to store.
    """
    began = clock.now()
    bill.made()
    run.stage = Stage.deliver
    output_dir = f"jobs/{run.token.job_id}/{run.token.attempt}/"
    evidence = await run.in_thread(tools.deliverers, open_evidence, run, work, made)
    for path in (*work.inputs.values(), *work.references.values()):
        path.unlink(missing_ok=True)  # what is mapped stays until it was judged
    stored: list[Delivered] = []
    judged = Judged()
    if made.outputs:
        expected_sec = tools.pace.deliver_sec(work.audio_sec * len(made.outputs))
        steps = run.total_steps
        reporter.tell(News(Stage.deliver, steps, steps, lambda: round(max(0.0, began + expected_sec - clock.now()), 1)))
        made, stored, judged = await _store_all(run, work, made, evidence, output_dir, tools)
        tools.pace.delivered(sum(done.file.duration for done in stored), clock.now() - began)
    result = result_of(run, work, made, stored, judged, output_dir, bill, clock.now() - began)
    if stored:
        run.check_lease()
        await run.in_thread(tools.deliverers, tools.storage.put_bytes, output_dir + MANIFEST, encode(result), JSON)
    return Completed(result, work.fingerprint)


async def _store_all(
    run: Run, work: Work, made: Finished, evidence: Evidence | None, output_dir: str, tools: Tools
) -> tuple[Finished, list[Delivered], Judged]:
    """Encode and upload every file, and judge them meanwhile."""
    plan, to = plan_of(work.request), kept_rate(work)
    if to is not None:
        made = msgspec.structs.replace(made, parameters=made.parameters | {"sample_rate": to.hertz})
    if plan.widens:
        over = await run.in_thread(tools.deliverers, first_over, made, to)
        if over is not None:
            made, plan = as_float(made, over), plan._replace(bit_depth=BitDepth.float32)
    stores = [_store(run, plan, made, output, output_dir, to, tools) for output in made.outputs]
    # The judgement first: it is short, and holds a song's worth of memory.
    done: list[Delivered | Judged] = await all_of([_judge(run, work, made, evidence, tools), *stores])
    stored = [part for part in done if isinstance(part, Delivered)]
    return made, stored, next(part for part in done if isinstance(part, Judged))


async def _judge(run: Run, work: Work, made: Finished, evidence: Evidence | None, tools: Tools) -> Delivered | Judged:
    if evidence is None:
        return Judged()
    return await run.in_thread(tools.deliverers, judge, run, work, made, evidence)


async def _store(
    run: Run, plan: OutputPlan, made: Finished, output: OutputFile, output_dir: str, to: Rate | None, tools: Tools
) -> Delivered | Judged:
    """Encode one file and upload it, its waveform first."""
    path = run.directory / f"{output.name}.{plan.output_format}"
    done = await run.in_thread(tools.deliverers, encode_file, output, path, made.sample_rate, plan, output_dir, to)
    run.check_lease()
    content_type = CONTENT_TYPES[plan.output_format]
    await run.in_thread(tools.deliverers, tools.storage.put_bytes, done.file.peaks_path, done.peaks, JSON)
    await run.in_thread(tools.deliverers, tools.storage.put_file, done.file.path, path, content_type)
    path.unlink(missing_ok=True)
    return done
