"""How good a separation is, judged beside the encoding of its stems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from soundfleet_schemas import SOURCE, QualityMetrics, SeparationRequest, plan_separation
from soundfleet_schemas.limits import MIN_ACCEPTABLE_QUALITY

from ..engine.wire import Finished
from ..logging import Event
from .prepare import Work
from .run import Run

if TYPE_CHECKING:
    from ..quality.spectra import Audio


class Judged(NamedTuple):
    """The quality of a run's output, and what is to be said about it."""

    metrics: QualityMetrics | None = None
    warnings: tuple[str, ...] = ()


class Evidence(NamedTuple):
    """What a judgement needs, memory-mapped: the files may be removed meanwhile."""

    stems: Mapping[str, Audio]
    mix: Audio
    references: Mapping[str, Audio]


def open_evidence(run: Run, work: Work, made: Finished) -> Evidence | None:
    """Map what a separation was made from and what came of it; None of a generation, or when they cannot be mapped."""
    if SOURCE not in work.inputs or not isinstance(work.request, SeparationRequest) or not made.outputs:
        return None
    from ..audio.mapped import open_mapped

    try:
        return Evidence(
            {output.name: open_mapped(output.path) for output in made.outputs},
            open_mapped(work.inputs[SOURCE]),
            {stem: open_mapped(path) for stem, path in work.references.items()},
        )
    except (OSError, ValueError):  # the stems may still be delivered
        run.log.exception(Event.unjudged)
        return None


def judge(run: Run, work: Work, made: Finished, evidence: Evidence) -> Judged:
    """Judge a separation, in a thread. A judgement that fails is missed, and costs nobody the stems."""
    from ..quality import assess

    assert isinstance(work.request, SeparationRequest)
    plan = plan_separation(work.request.options, work.spec)
    try:
        metrics = assess(
            evidence.stems,
            evidence.mix,
            evidence.references,
            sample_rate=made.sample_rate,
            gain=float(made.parameters.get("gain", 1.0)),
            rest=plan.rest,
            of=plan.computed[0],
        )
    except Exception:  # a defect of ours, or memory that is short
        run.log.exception(Event.unjudged)
        return Judged(warnings=("the quality of this separation could not be judged",))
    return Judged(metrics, _warnings(metrics))


def _warnings(metrics: QualityMetrics | None) -> tuple[str, ...]:
    if metrics is None or metrics.overall_score >= MIN_ACCEPTABLE_QUALITY:
        return ()
    worst = min(metrics.scores, key=lambda stem: metrics.scores[stem])
    return (
        f"quality {metrics.overall_score:.2f} ({metrics.method}) is below {MIN_ACCEPTABLE_QUALITY:g}, lowest for "
        f"{worst}: listen before you use it, and try quality best or another model",
    )
