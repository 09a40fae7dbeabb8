"""The result of a run, filled with what was measured."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

from soundfleet_schemas import (
    AudioFile,
    GenerationRequest,
    JobResult,
    OutputFormat,
    ProcessingMetrics,
    Stage,
    StemInfo,
    Track,
)

from ..engine.wire import Finished
from . import clock
from .encoding import Delivered
from .gauges import Usage
from .judging import Judged
from .meter import Meter
from .prepare import Work
from .run import Run

TRACK = "track"


class Bill:
    """What a run costs, from its begin on."""

    __slots__ = ("_cpu_before", "_meter", "_run", "prepare_sec", "usage", "waited_sec")

    def __init__(self, run: Run, meter: Meter) -> None:
        self._run = run
        self._meter = meter
        self._cpu_before = meter.cpu.cpu_sec()
        self.prepare_sec = 0.0
        self.waited_sec = max(0.0, time.time() - run.claim.created_at_ms / 1000)
        self.usage = Usage()

    def prepared(self) -> None:
        """The preparation ends now; the run goes into the engine."""
        self.prepare_sec = clock.now() - self._run.started
        self.usage = self._meter.gauges.begin()

    def made(self) -> None:
        """The run came out of the engine."""
        self._meter.gauges.end(self.usage)

    def cpu_usage(self) -> float:
        """Mean CPU use of the worker's processes since the run began, in cores."""
        wall_sec = clock.now() - self._run.started
        return round((self._meter.cpu.cpu_sec() - self._cpu_before) / wall_sec, 2) if wall_sec > 0 else 0.0


def result_of(
    run: Run,
    work: Work,
    made: Finished,
    stored: list[Delivered],
    judged: Judged,
    output_dir: str,
    bill: Bill,
    deliver_sec: float,
) -> JobResult:
    """Describe a delivered run."""
    processing_time = math.ceil(clock.now() - run.started)
    files = {done.name: done.file for done in stored}
    return JobResult(
        job_id=run.token.job_id,
        attempt=run.token.attempt,
        output_dir=output_dir,
        processing_time=processing_time,
        model_used=work.spec.backend,
        file_size=sum(file.size for file in files.values()),
        stems={} if work.is_generation else {name: _stem(file) for name, file in files.items()},
        track=_track(work, made, files.get(TRACK)),
        quality_metrics=judged.metrics,
        processing_metrics=_metrics(work, made, stored, bill, deliver_sec, processing_time),
        parameters=made.parameters,
        warnings=(*made.warnings, *(_clipping(done) for done in stored if done.clipped), *judged.warnings),
        fingerprint=work.fingerprint or "",
    )


def _stem(file: AudioFile) -> StemInfo:
    return StemInfo(**{name: getattr(file, name) for name in file.__struct_fields__})


def _track(work: Work, made: Finished, file: AudioFile | None) -> Track | None:
    request = work.request
    if file is None or not isinstance(request, GenerationRequest):
        return None
    return Track(
        id=work.fingerprint or "",
        path=file.path,
        prompt=request.prompt,
        duration_sec=file.duration,
        sample_rate=file.sample_rate,
        seed=request.seed or 0,
        backend=work.spec.backend,
        model_version=work.spec.model_version,
        generation_time_sec=round(made.infer_sec, 3),
        created_at=datetime.now(UTC),
        file=file,
    )


def _metrics(
    work: Work, made: Finished, stored: list[Delivered], bill: Bill, deliver_sec: float, processing_time: int
) -> ProcessingMetrics:
    return ProcessingMetrics(
        processing_time=processing_time,
        cpu_usage=bill.cpu_usage(),
        memory_usage=bill.usage.memory_mb or made.peak_memory_mb,
        model_load_time=math.ceil(made.load_sec),
        input_file_size=work.input_bytes,
        output_file_sizes=tuple(done.file.size for done in stored),
        stage_sec={
            Stage.prepare: round(bill.prepare_sec, 3),
            Stage.load: round(made.load_sec, 3),
            Stage.infer: round(made.infer_sec, 3),
            Stage.deliver: round(deliver_sec, 3),
        },
        gpu_usage=bill.usage.gpu_usage,
        gpu_memory=bill.usage.gpu_memory_mb,
        waited_sec=round(bill.waited_sec, 3),
        real_time_factor=round(work.audio_sec / made.infer_sec, 2) if made.infer_sec > 0 else None,
    )


def _clipping(done: Delivered) -> str:
    remedy = "leave bit_depth out" if done.file.format is OutputFormat.wav else "ask for wav"
    return (
        f"{done.name}: {done.clipped} samples exceed full scale and were clipped "
        f"(peak {done.file.peak_dbfs:.1f} dBFS); ask for normalize, or {remedy}"
    )
