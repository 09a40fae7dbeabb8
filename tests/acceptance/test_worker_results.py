"""What a separation's result says: quality, waveforms, cost; and the options that shape its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests import media
from tests.commandline import CommandLine
from tests.fleet import Fleet

pytest.importorskip("torch", reason="needs the worker extra")
from soundfleet_schemas import ErrorCode, JobResult, JobStatus, Limits, SeparationRequest, StemSeparationOptions
from soundfleet_worker.audio.decode import decode
from soundfleet_worker.audio.levels import snr_db
from soundfleet_worker.sketch import compose, mixture, render

LIMITS = Limits(min_audio_sec=0.0)
SEPARATE = {"SOUNDFLEET_ONLY": "separate.htdemucs_mini"}


def separation(source: Path, **fields: Any) -> SeparationRequest:
    """A request for the stems of a file."""
    references = {stem: str(path) for stem, path in fields.pop("references", {}).items()}
    options = StemSeparationOptions(model="htdemucs_mini", shifts=0, **fields)
    return SeparationRequest(source=str(source), options=options, references=references)


@pytest.fixture
def song(tmp_path: Path) -> dict[str, Path]:
    """A sketch of 6 s and its true stems, as files at 44.1 kHz; the song is ``mix``."""
    stems = dict(render(compose("warm lofi", 11, 6.0, 44_100)))
    named = {"mix": mixture(stems), **stems}
    return {name: media.write(tmp_path / f"{name}.wav", audio, kind="wavfloat") for name, audio in named.items()}


def test_a_result_holds_quality_waveforms_and_cost(fleet: Fleet, song: dict[str, Path]) -> None:
    """Estimated, and measured where references were given; all of it is in the manifest too."""
    fleet.start(**SEPARATE)
    references = {stem: song[stem] for stem in ("drums", "bass")}
    plain, measured = (
        fleet.producer.result(fleet.completed(fleet.submit(request)).id)
        for request in (separation(song["mix"]), separation(song["mix"], references=references))
    )
    quality = plain.quality_metrics
    assert quality is not None
    assert quality.method == "estimate-1"
    assert set(quality.scores) == set(plain.stems)
    assert not measured.cached, "references are a part of the question"
    against = measured.quality_metrics
    assert against is not None
    assert against.method == "si-sdr of drums, bass, else estimate-1"
    assert set(against.si_sdr_db) == {"drums", "bass"}
    assert against.si_sdr_db["drums"] > 5.0
    metrics = plain.processing_metrics
    assert metrics is not None
    assert 50 < metrics.memory_usage < 20_000
    assert metrics.cpu_usage > 0.0
    assert (metrics.gpu_usage, metrics.gpu_memory) == (None, None)
    assert metrics.waited_sec is not None
    assert set(metrics.stage_sec) == {"prepare", "load", "infer", "deliver"}
    raw = fleet.stack.storage.get_bytes(f"{measured.output_dir}manifest.json")
    manifest = msgspec.json.decode(raw, type=JobResult)
    assert (manifest.quality_metrics, manifest.processing_metrics) == (against, measured.processing_metrics)
    assert manifest.stems["drums"].peaks_path == f"{measured.output_dir}drums.peaks.json"
    assert manifest.stems["drums"].peaks_url is None, "minted when it is read"


def test_the_waveforms_are_downloaded_on_demand(
    fleet: Fleet, song: dict[str, Path], tmp_path: Path, soundfleet: CommandLine
) -> None:
    """Stems by default, waveforms with --peaks; each is of the file beside it."""
    fleet.start(**SEPARATE)
    job = fleet.completed(fleet.submit(separation(song["mix"], stems=("drums",))))
    assert soundfleet("download", job.id, "--out", str(tmp_path / "plain")).code == 0
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == ["drums.wav", "manifest.json"]
    said = soundfleet("download", job.id, "--out", str(tmp_path / "more"), "--peaks", "--json")
    names = [Path(document["path"]).name for document in said.documents]
    assert names == ["drums.wav", "drums.peaks.json", "manifest.json"]
    waveform = json.loads((tmp_path / "more" / "drums.peaks.json").read_bytes())
    info = decode(tmp_path / "more" / "drums.wav", tmp_path / "drums.npy", 44_100, LIMITS)
    audio = np.load(tmp_path / "drums.npy")
    assert waveform["length"] == -(-info.samples // waveform["samples_per_pixel"])
    assert max(waveform["data"]) == pytest.approx(audio.max() * 32_768, abs=1)
    result = fleet.producer.result(job.id)
    assert result.stems["drums"].peaks_url is not None
    assert len(result.cdn_urls) == 1, "addresses of audio, as before"


def test_what_was_measured_is_shown(fleet: Fleet, song: dict[str, Path], soundfleet: CommandLine) -> None:
    """As a person reads it, in eighty columns."""
    fleet.start(**SEPARATE)
    said = soundfleet("separate", str(song["mix"]), "--model", "htdemucs_mini", "--two-stems", "drums", "--watch")
    assert said.code == 0
    assert "estimated (estimate-1)" in said.out
    assert "no_drums" in said.out
    assert "free of artifacts" in said.out
    assert "cores" in said.out
    assert "download --peaks" in said.out
    reference = f"drums={song['drums']}"
    said = soundfleet("separate", str(song["mix"]), "--model", "htdemucs_mini", "--reference", reference, "--watch")
    assert "partly estimated (si-sdr of drums, else estimate-1)" in said.out
    assert soundfleet("separate", str(song["mix"]), "--reference", "drums").code == 2


def test_two_stems_at_the_sources_own_rate_add_up_to_the_source(fleet: Fleet, tmp_path: Path) -> None:
    """Aligned, and as long as the source to the sample."""
    fleet.start(**SEPARATE)
    stems = render(compose("warm lofi", 12, 5.0, 48_000))
    mix = mixture(stems)[:, :-7]
    source = media.write(tmp_path / "mix.wav", mix, 48_000, "wavfloat")
    job = fleet.completed(fleet.submit(separation(source, two_stems="vocals", keep_sample_rate=True)))
    fleet.producer.download(job.id, tmp_path / "out")
    result = job.result
    assert result is not None
    assert result.parameters["sample_rate"] == 48_000
    total = np.zeros_like(mix)
    for name in ("vocals", "no_vocals"):
        assert result.stems[name].sample_rate == 48_000
        info = decode(tmp_path / "out" / f"{name}.wav", tmp_path / f"{name}.npy", 48_000, LIMITS)
        assert (info.sample_rate, info.samples) == (48_000, mix.shape[1])
        total += np.load(tmp_path / f"{name}.npy")
    inside = slice(480, -480)
    assert snr_db(mix[:, inside], total[:, inside]) > 40, "but for what lies beyond the model's 22 kHz"


def test_a_rate_that_mp3_cannot_hold_is_refused_before_the_device_is_touched(fleet: Fleet, tmp_path: Path) -> None:
    """Once, with what to do."""
    fleet.start(**SEPARATE)
    source = media.write(tmp_path / "mix.wav", media.music(1.0, 96_000), 96_000)
    job = fleet.ended(fleet.submit(separation(source, keep_sample_rate=True, output_format="mp3")))
    assert (job.status, job.attempt) == (JobStatus.failed, 1)
    assert job.error is not None
    assert job.error.code is ErrorCode.INVALID_OPTION
    assert "96000 Hz" in job.error.message
    assert job.error.action.startswith("Leave keep_sample_rate out")
