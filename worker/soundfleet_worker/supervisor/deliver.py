"""Deliver: encode the engine's arrays, upload the files, and the manifest last."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from soundfleet_schemas import AudioFile, BitDepth, GenerationRequest, JobRequest, OutputFormat, Stage, encode
from soundfleet_schemas.options import OutputPlan, plan_output

from ..engine.wire import Finished, OutputFile
from . import clock
from .outcome import Completed
from .prepare import Work
from .reporter import News, Reporter
from .result import Bill, Delivered, result_of
from .run import Run
from .tools import Tools

CONTENT_TYPES = {OutputFormat.wav: "audio/wav", OutputFormat.flac: "audio/flac", OutputFormat.mp3: "audio/mpeg"}
MANIFEST = "manifest.json"


async def deliver(run: Run, work: Work, made: Finished, bill: Bill, reporter: Reporter, tools: Tools) -> Completed:
    """Store the output under this attempt's own prefix; nothing of it is visible until it is settled.

    Raises STORAGE_UNAVAILABLE or STORAGE_REFUSED. A run that made no audio has nothing to store.
    """
    began = clock.now()
    run.stage = Stage.deliver
    output_dir = f"jobs/{run.token.job_id}/{run.token.attempt}/"
    stored: list[Delivered] = []
    if made.outputs:
        expected_sec = tools.pace.deliver_sec(work.audio_sec * len(made.outputs))
        plan = plan_of(work.request)
        if plan.widens:
            over = await run.in_thread(tools.deliverers, first_over, made.outputs)
            if over is not None:
                made, plan = as_float(made, over), plan._replace(bit_depth=BitDepth.float32)
        steps = run.total_steps
        reporter.tell(News(Stage.deliver, steps, steps, lambda: round(max(0.0, began + expected_sec - clock.now()), 1)))
        stored = await _all([_store(run, plan, made, output, output_dir, tools) for output in made.outputs])
        tools.pace.delivered(sum(done.file.duration for done in stored), clock.now() - began)
    result = result_of(run, work, made, stored, output_dir, bill, clock.now() - began)
    if stored:
        run.check_lease()
        manifest = output_dir + MANIFEST
        await run.in_thread(tools.deliverers, tools.storage.put_bytes, manifest, encode(result), "application/json")
    return Completed(result, work.fingerprint)


async def _all(stores: Sequence[Coroutine[Any, Any, Delivered]]) -> list[Delivered]:
    """Do all at once; the first error ends the others, and is raised as it is."""
    tasks = [asyncio.create_task(store) for store in stores]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:  # a cancellation ends the others just as well
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _store(
    run: Run, plan: OutputPlan, made: Finished, output: OutputFile, output_dir: str, tools: Tools
) -> Delivered:
    """Encode and upload one file."""
    path = run.directory / f"{output.name}.{plan.output_format}"
    done = await run.in_thread(tools.deliverers, encode_file, output, path, made.sample_rate, plan, output_dir)
    run.check_lease()
    content_type = CONTENT_TYPES[plan.output_format]
    await run.in_thread(tools.deliverers, tools.storage.put_file, done.file.path, path, content_type)
    path.unlink(missing_ok=True)
    return done


def plan_of(request: JobRequest) -> OutputPlan:
    """How the files of a request are encoded."""
    asked = request if isinstance(request, GenerationRequest) else request.options
    return plan_output(asked.output_format, asked.bit_depth, asked.bitrate_kbps)


def first_over(outputs: Sequence[OutputFile]) -> str | None:
    """Name the first array that goes beyond full scale, where integers clip and stems no longer add up."""
    import numpy as np

    from ..audio.levels import exceeds_full_scale

    return next((output.name for output in outputs if exceeds_full_scale(np.load(output.path, mmap_mode="r"))), None)


def as_float(made: Finished, over: str) -> Finished:
    """Tell in the result that all files of a run are float because ``over`` needs it."""
    warning = (
        f"{over} goes beyond full scale, so every file of this job is 32-bit float; for integers that do not clip, ask "
        "for normalize, and for integers in any case, ask for a bit_depth"
    )
    return msgspec.structs.replace(
        made, parameters=made.parameters | {"bit_depth": BitDepth.float32}, warnings=(*made.warnings, warning)
    )


def encode_file(output: OutputFile, path: Path, sample_rate: int, plan: OutputPlan, output_dir: str) -> Delivered:
    """Encode one array, which is memory-mapped and removed afterwards."""
    import numpy as np

    from ..audio.encode import encode as encode_audio

    source = Path(output.path)
    audio = np.load(source, mmap_mode="r")
    encoded = encode_audio(audio, path, sample_rate, plan.output_format, plan.bit_depth, plan.bitrate_kbps)
    source.unlink(missing_ok=True)
    file = AudioFile(
        filename=path.name,
        path=output_dir + path.name,
        size=encoded.size,
        duration=audio.shape[1] / sample_rate,
        format=plan.output_format,
        sample_rate=sample_rate,
        bitrate=encoded.bitrate,
        sha256=encoded.sha256,
        peak_dbfs=encoded.peak_dbfs,
        rms_dbfs=encoded.rms_dbfs,
    )
    return Delivered(output.name, file, encoded.clipped)
