"""What a result says of a run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import structlog

from soundfleet_producer.queue.verbs import Claim, Token
from soundfleet_schemas import (
    CATALOG,
    DEFAULT_LIMITS,
    SOURCE,
    BitDepth,
    GenerationRequest,
    OutputFormat,
    QualityMetrics,
    SeparationRequest,
    StemSeparationOptions,
)
from soundfleet_worker.engine.wire import Finished, OutputFile
from soundfleet_worker.supervisor import clock
from soundfleet_worker.supervisor.encoding import Delivered, as_float, encode_file, first_over, kept_rate, plan_of
from soundfleet_worker.supervisor.judging import Judged, judge, open_evidence
from soundfleet_worker.supervisor.meter import Meter
from soundfleet_worker.supervisor.prepare import Work
from soundfleet_worker.supervisor.result import Bill, result_of
from soundfleet_worker.supervisor.run import Run
from soundfleet_worker.supervisor.scratch import Scratch

MADE = Finished(
    run="r",
    outputs=(),
    sample_rate=8_000,
    parameters={"shifts": 0},
    warnings=("the model says",),
    load_sec=0.2,
    infer_sec=2.0,
    peak_memory_mb=70,
)


QUALITY = QualityMetrics(overall_score=0.9, artifact_reduction=0.9, method="estimate-1")


def _made(*outputs: OutputFile) -> Finished:
    return msgspec.structs.replace(MADE, outputs=outputs)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of the third attempt."""
    claim = Claim(Token("job", "w", 3), tries=1, crashes=2, raw_request=b"", created_at_ms=0)
    return Run(claim, clock.now(), DEFAULT_LIMITS, Scratch(str(tmp_path)), structlog.get_logger())


def _delivered(tmp_path: Path, name: str, peak: float, options: StemSeparationOptions | GenerationRequest) -> Delivered:
    source = tmp_path / f"{name}.npy"
    np.save(source, np.full((2, 8_000), peak, dtype=np.float32))
    request = options if isinstance(options, GenerationRequest) else SeparationRequest(source="x", options=options)
    plan = plan_of(request)
    path = tmp_path / f"{name}.{plan.output_format}"
    done = encode_file(OutputFile(name=name, path=str(source)), path, 8_000, plan, "jobs/job/3/")
    assert not source.exists(), "a song's worth of memory is given back as soon as it is encoded"
    assert path.stat().st_size == done.file.size
    return done


def test_stems_are_described_by_name_and_clipping_is_said(run: Run, tmp_path: Path) -> None:
    """A stem beyond full scale is a warning with what to do about it, beside the model's own."""
    options = StemSeparationOptions(model="htdemucs_mini", output_format=OutputFormat.flac)
    stored = [_delivered(tmp_path, "drums", 0.5, options), _delivered(tmp_path, "bass", 1.5, options)]
    request = SeparationRequest(source="x", options=options)
    work = Work(request, CATALOG["htdemucs_mini"], "f" * 64, 4.0, 2, input_bytes=123)
    judged = Judged(QUALITY, ("listen",))
    result = result_of(run, work, MADE, stored, judged, "jobs/job/3/", Bill(run, Meter()), 0.5)
    assert list(result.stems) == ["drums", "bass"]
    assert result.track is None
    assert (result.attempt, result.output_dir, result.model_used) == (3, "jobs/job/3/", "htdemucs_mini")
    assert result.stems["drums"].path == "jobs/job/3/drums.flac"
    assert result.stems["drums"].duration == 1.0
    assert result.file_size == sum(stem.size for stem in result.stems.values())
    assert result.warnings[0] == "the model says"
    assert result.warnings[1].startswith("bass: 16000 samples exceed full scale")
    assert "normalize" in result.warnings[1]
    metrics = result.processing_metrics
    assert metrics is not None
    assert (metrics.input_file_size, metrics.memory_usage, metrics.model_load_time) == (123, 70, 1)
    assert metrics.real_time_factor == 2.0
    assert metrics.stage_sec["deliver"] == 0.5
    assert metrics.waited_sec is not None
    assert metrics.waited_sec > 1e6, "this claim says that the job is from 1970"
    assert result.quality_metrics is QUALITY
    assert result.warnings[-1] == "listen"
    assert result.stems["drums"].peaks_path == "jobs/job/3/drums.peaks.json"


def test_a_float_file_clips_nothing(tmp_path: Path) -> None:
    """What was asked for is how it is encoded."""
    options = StemSeparationOptions(model="htdemucs_mini", bit_depth=BitDepth.float32)
    done = _delivered(tmp_path, "vocals", 1.5, options)
    assert (done.clipped, done.file.format, done.file.peak_dbfs) == (0, OutputFormat.wav, pytest.approx(3.52, abs=0.01))


def test_the_sample_format_is_ours_to_choose_when_nobody_named_one() -> None:
    """Of wav only: flac holds no float, and an integer that was asked for is delivered."""
    separation = {"model": "htdemucs_mini"}
    chosen = [
        plan_of(SeparationRequest(source="x", options=StemSeparationOptions(**separation, **fields))).widens
        for fields in (
            {},
            {"bit_depth": BitDepth.int16},
            {"bit_depth": BitDepth.int24},
            {"bit_depth": BitDepth.float32},
            {"output_format": OutputFormat.flac},
            {"output_format": OutputFormat.mp3},
        )
    ]
    assert chosen == [True, False, False, False, False, False]
    assert plan_of(GenerationRequest(prompt="p", duration_sec=5, backend="sketch", seed=1)).widens


def test_one_stem_beyond_full_scale_makes_every_file_float(tmp_path: Path) -> None:
    """The arrays are measured before anything is encoded, and the result says which one it was."""
    outputs = []
    for name, peak in (("drums", 1.0), ("bass", 1.01), ("vocals", 0.1)):
        np.save(tmp_path / f"{name}.npy", np.full((2, 8_000), -peak, dtype=np.float32))
        outputs.append(OutputFile(name=name, path=str(tmp_path / f"{name}.npy")))
    assert first_over(_made(*outputs)) == "bass"
    assert first_over(_made(outputs[0], outputs[2])) is None
    told = as_float(MADE, "bass")
    assert told.parameters == {"shifts": 0, "bit_depth": "float"}
    assert told.warnings[0] == "the model says"
    assert told.warnings[1].startswith("bass goes beyond full scale")
    assert MADE.parameters == {"shifts": 0}, "messages are not changed in place"


def test_a_stem_that_grows_beyond_full_scale_on_its_way_to_another_rate_is_found(tmp_path: Path) -> None:
    """A square wave's samples are all within; those between them are not."""
    square = np.tile(np.repeat(np.array([0.99, -0.99], dtype=np.float32), 20), 400)
    np.save(tmp_path / "drums.npy", np.stack([square, square]))
    made = _made(OutputFile(name="drums", path=str(tmp_path / "drums.npy")))
    request = SeparationRequest(source="x", options=StemSeparationOptions(model="htdemucs_mini", keep_sample_rate=True))
    work = Work(request, CATALOG["htdemucs_mini"], None, 2.0, 1, input_rate=12_000)
    to = kept_rate(work)
    assert to is not None
    assert (to.hertz, to.samples) == (12_000, 24_000)
    assert first_over(made) is None
    assert first_over(made, to) == "drums"


def test_a_judgement_that_fails_costs_nobody_the_stems(run: Run, tmp_path: Path) -> None:
    """It is said in the warnings, and logged."""
    request = SeparationRequest(source="x", options=StemSeparationOptions(model="htdemucs_mini"))
    np.save(tmp_path / "drums.npy", np.zeros((2, 8_000), dtype=np.float32))
    np.save(tmp_path / "mix.npy", np.zeros((2, 8_000), dtype=np.float32))
    made = _made(OutputFile(name="drums", path=str(tmp_path / "drums.npy")))
    work = Work(request, CATALOG["htdemucs_mini"], None, 1.0, 1, inputs={SOURCE: tmp_path / "mix.npy"})
    evidence = open_evidence(run, work, made)
    assert evidence is not None
    for path in tmp_path.glob("*.npy"):
        path.unlink()  # what is mapped is still there
    assert judge(run, work, made, evidence) == Judged(), "silence is neither good nor bad"
    judged = judge(run, work, msgspec.structs.replace(made, parameters={"gain": "loud"}), evidence)
    assert judged.metrics is None
    assert "could not be judged" in judged.warnings[0]


def test_a_track_has_the_fingerprint_as_its_id(run: Run, tmp_path: Path) -> None:
    """And the fields of the data model, truthfully."""
    request = GenerationRequest(
        prompt="p", duration_sec=5, backend="sketch", seed=2**64 - 1, output_format=OutputFormat.mp3
    )
    work = Work(request, CATALOG["sketch"], "f" * 64, 5.0, 1)
    stored = [_delivered(tmp_path, "track", 0.5, request)]
    result = result_of(run, work, MADE, stored, Judged(), "jobs/job/3/", Bill(run, Meter()), 0.5)
    assert result.quality_metrics is None
    track = result.track
    assert track is not None
    assert (track.id, track.seed, track.model_version) == ("f" * 64, 2**64 - 1, "sketch-1")
    assert (track.duration_sec, track.generation_time_sec, track.file.bitrate) == (1.0, 2.0, 64_000)
    assert result.stems == {}
