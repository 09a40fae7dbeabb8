"""What a result measured, as a person reads it: how good, how long, how much."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from soundfleet_schemas import JobResult, ProcessingMetrics, QualityMetrics
from soundfleet_schemas.limits import MIN_ACCEPTABLE_QUALITY

from .tables import Delivered, files_table


def result_view(delivered: Delivered) -> RenderableType:
    """The files of a result, and under them what was measured."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in _rows(delivered.result):
        table.add_row(name, text)
    return Group(files_table([delivered]), *([table] if table.row_count else []))


def _rows(result: JobResult) -> Iterator[tuple[str, Text]]:
    quality, metrics = result.quality_metrics, result.processing_metrics
    if quality is not None:
        style = "green" if quality.overall_score >= MIN_ACCEPTABLE_QUALITY else "yellow"
        yield "quality", Text(f"{quality.overall_score:.2f} of 1, {_method(quality)}", style=style)
        yield "", Text(", ".join(_scores(quality)))
    if metrics is not None:
        earlier = " by the job that made it" if result.cached else ""
        yield "took", Text(f"{metrics.processing_time} s{earlier}{_stages(metrics)}")
        yield "used", Text(", ".join(_uses(metrics)))
    if any(file.peaks_path for file in result.files.values()):
        yield "waveforms", Text("for players; download --peaks, or peaks_url of --json")


def _method(quality: QualityMetrics) -> str:
    if "estimate" not in quality.method:
        return f"measured against the references ({quality.method})"
    return f"{'partly ' if quality.si_sdr_db else ''}estimated ({quality.method})"


def _scores(quality: QualityMetrics) -> Iterator[str]:
    named = {"vocals": quality.vocal_isolation, "drums": quality.drum_separation, "bass": quality.bass_isolation}
    known = {stem: score for stem, score in named.items() if score is not None}
    for stem, score in (quality.scores or known).items():
        measured = quality.si_sdr_db.get(stem)
        yield f"{stem} {score:.2f}" + ("" if measured is None else f" ({measured:.1f} dB)")
    yield f"free of artifacts {quality.artifact_reduction:.2f}"


def _stages(metrics: ProcessingMetrics) -> str:
    spent = ", ".join(f"{stage} {sec:.1f}" for stage, sec in metrics.stage_sec.items() if sec >= 0.05)
    waited = "" if metrics.waited_sec is None else f"; after {metrics.waited_sec:.1f} s in the queue"
    return (f" ({spent})" if spent else "") + waited


def _uses(metrics: ProcessingMetrics) -> Iterator[str]:
    yield f"{metrics.cpu_usage:.1f} cores"
    yield f"{metrics.memory_usage} MB"
    if metrics.gpu_usage is not None:
        yield f"GPU {100 * metrics.gpu_usage:.0f} %"
    if metrics.gpu_memory is not None:
        yield f"{metrics.gpu_memory} MB of GPU memory"
    if metrics.real_time_factor is not None:
        yield f"{metrics.real_time_factor:.1f} times real time"
