"""Two hundred queued jobs of mixed models on one device: every one right, and no memory lost on the way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from tests import media
from tests.checkpoints import write_models
from tests.fleet import Fleet
from tests.listening import read, snr_db
from tests.media import Signal
from tests.waiting import wait_until

torch = pytest.importorskip("torch", reason="needs the worker extra")
from demucs.apply import apply_model  # noqa: E402

from soundfleet_producer import GenerationRequest, SeparationRequest, Submitted  # noqa: E402
from soundfleet_schemas import (  # noqa: E402
    CATALOG,
    Job,
    JobRequest,
    JobStatus,
    StemSeparationOptions,
    UploadSource,
)
from soundfleet_worker.backends.contract import ModelConfig  # noqa: E402
from soundfleet_worker.separation.loading import load  # noqa: E402

JOBS = 200
BUDGET_MB = 4_200
"""Little more than the largest model asks for before it is loaded: the others must make room for it."""
GROWTH_MB = 48.0
"""Of the engine's memory, between the first and the last third of the jobs that follow the first of each kind."""
RIGHT_DB = 60.0
SECONDS = (1.0, 1.3, 1.7)


@dataclass(frozen=True)
class Ask:
    """One kind of job, and how many of two hundred are of it."""

    share: int
    model: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def wish(self) -> StemSeparationOptions:
        return StemSeparationOptions(model=self.model, **{"shifts": 0, **dict(self.options)})


ASKS = (
    Ask(50, "htdemucs_mini"),
    Ask(30, "htdemucs_mini", (("remove_vocals", True), ("output_format", "flac"))),
    Ask(20, "htdemucs_mini", (("stems", ("bass",)), ("normalize", True))),
    Ask(20, "htdemucs_mini", (("segment_duration", 2.0), ("overlap_duration", 0.3))),
    Ask(25, "hdemucs_mmi"),
    Ask(8, "mdx"),
    Ask(6, "mdx", (("stems", ("bass",)),)),
    Ask(6, "mdx_extra", (("normalize", True),)),
    Ask(8, "htdemucs"),
    Ask(5, "htdemucs_6s", (("stems", ("piano", "vocals")),)),
    Ask(6, "htdemucs_ft", (("stems", ("drums",)),)),
    Ask(16, "sketch"),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For Demucs' own answers: small models gain nothing from more, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Truth:
    """What each kind of job must give of each song: Demucs' own answer, and the sum rule on top of it."""

    def __init__(self, folder: Path, songs: list[Signal]) -> None:
        self._folder, self._songs = folder, songs
        self._right: set[tuple[Ask, int, str, str]] = set()
        """Files that were listened to, by their hashes: the same job often makes the same file."""

    def complaint(self, fleet: Fleet, ask: Ask, song: int, job: Job) -> str | None:
        """What is wrong with a job's end; None where all is right."""
        if job.error is not None:
            return str(job.error)
        files = job.result.files
        known = {(ask, song, name, file.sha256) for name, file in files.items()}
        if known <= self._right:
            return None
        if ask.model == "sketch":
            wrong = [] if files["track"].duration == 5.0 else [f"a track of {files['track'].duration} s"]
        else:
            heard = {name: read(fleet.stack.storage.get_bytes(file.path)) for name, file in files.items()}
            wrong = _differences(self._stems(ask, song), heard)
        self._right |= known if not wrong else set()
        return ", ".join(wrong) or None

    def _stems(self, ask: Ask, song: int) -> dict[str, Signal]:
        spec, options, mix = CATALOG[ask.model], ask.wish, self._songs[song]
        bag, _ = load(spec, ModelConfig(self._folder))
        mono = mix.mean(axis=0)
        mean, std = mono.mean(), mono.std(ddof=1) + 1e-8
        segment = options.segment_duration
        overlap = 0.25 if segment is None else (options.overlap_duration or 0.0) / segment
        scaled = torch.from_numpy((mix - mean) / std)[None]
        said = apply_model(bag, scaled, split=True, shifts=0, overlap=overlap, segment=segment)[0].numpy() * std + mean
        stems = dict(zip(spec.stems, said, strict=True))
        wanted = options.stems or spec.stems
        partial = any(not any(row[spec.stems.index(stem)] for stem in wanted) for row in bag.weights)
        return _delivered(stems, mix, options, partial=partial)


def _delivered(
    stems: dict[str, Signal], mix: Signal, options: StemSeparationOptions, *, partial: bool
) -> dict[str, Signal]:
    """Share what is missing of the mix by energy, unless only some sub-models ran; then choose and scale."""
    if not partial:
        energy = {name: float(np.square(stem, dtype=np.float64).sum()) for name, stem in stems.items()}
        missing = mix - sum(stems.values(), np.zeros_like(mix))
        stems = {name: stem + missing * (energy[name] / sum(energy.values())) for name, stem in stems.items()}
    if options.remove_vocals:
        stems = {"instrumental": mix - stems["vocals"]}
    elif options.stems is not None:
        stems = {name: stems[name] for name in options.stems}
    if options.normalize:
        gain = 10 ** (-1 / 20) / max(np.abs(stem).max() for stem in stems.values())
        stems = {name: stem * np.float32(gain) for name, stem in stems.items()}
    return stems


def _differences(wanted: dict[str, Signal], heard: dict[str, Signal]) -> list[str]:
    if set(wanted) != set(heard):
        return [f"the stems are {', '.join(heard)}"]
    wrong = [f"{name} has {heard[name].shape}" for name, stem in wanted.items() if stem.shape != heard[name].shape]
    return wrong or [
        f"{name} is {level:.0f} dB from Demucs' own"
        for name, stem in wanted.items()
        if (level := snr_db(stem, heard[name])) < RIGHT_DB
    ]


def _request(ask: Ask, source: UploadSource) -> JobRequest:
    if ask.model == "sketch":
        return GenerationRequest(prompt="warm lofi", duration_sec=5, backend="sketch", seed=3, use_cache=False)
    return SeparationRequest(source=source, options=ask.wish, use_cache=False)


def _memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4_096 / 1e6


def _finished(fleet: Fleet) -> int:
    counts = fleet.producer.counts()
    return counts[JobStatus.completed] + counts[JobStatus.failed]


def _run(fleet: Fleet, requests: list[JobRequest], engine: int) -> tuple[list[str], list[float]]:
    """Submit all at once; return their ids, and what the engine's memory was while they ended."""
    before, samples = _finished(fleet), []
    answers = fleet.producer.submit_many(requests)
    assert all(isinstance(answer, Submitted) for answer in answers), answers

    def ended() -> bool:
        done = _finished(fleet) - before
        if len(samples) < done:
            samples.extend([_memory_mb(engine)] * (done - len(samples)))
        return done == len(requests)

    wait_until(ended, f"the end of {len(requests)} jobs", timeout=480)
    return [request.id for request in requests], samples


@pytest.mark.timeout(600)
def test_two_hundred_jobs_of_mixed_models_are_right_and_leave_no_memory_behind(fleet: Fleet, tmp_path: Path) -> None:
    """Models come and go on a budget that holds few of them; the first of each kind is left out of the measurement."""
    models = write_models(tmp_path / "models")
    songs = [media.music(seconds, seed=n) for n, seconds in enumerate(SECONDS)]
    sources = [
        fleet.producer.upload(media.make(tmp_path, "wavfloat", song, name=f"{n}.wav")) for n, song in enumerate(songs)
    ]
    chance = random.Random(7)
    light = {"htdemucs_mini": len(songs)}
    rest = [(ask, chance.randrange(light.get(ask.model, 1))) for ask in ASKS for _ in range(ask.share - 1)]
    chance.shuffle(rest)
    order = [(ask, 0) for ask in ASKS] + rest
    assert len(order) == JOBS
    requests = [_request(ask, sources[song]) for ask, song in order]
    services = [f"separate.{name}" for name in ("htdemucs_mini", *models)]
    worker = fleet.start(
        SOUNDFLEET_ONLY=",".join([*services, "generate.sketch"]),
        SOUNDFLEET_MODEL_DIR=str(tmp_path / "models"),
        SOUNDFLEET_MEMORY_MB=str(BUDGET_MB),
        SOUNDFLEET_PRECISION="fp32",
        SOUNDFLEET_SLOTS="8",
    )
    engine = worker.engine_pid
    ids, _ = _run(fleet, requests[: len(ASKS)], engine)
    later, memory = _run(fleet, requests[len(ASKS) :], engine)
    jobs = [fleet.producer.status(job_id) for job_id in ids + later]
    truth = Truth(tmp_path / "models", songs)
    wrong = {
        f"{ask.model} {dict(ask.options)} of song {song}": complaint
        for (ask, song), job in zip(order, jobs, strict=True)
        if (complaint := truth.complaint(fleet, ask, song, job))
    }
    assert not wrong
    assert (worker.engine_pid, len(worker.events("engine ready"))) == (engine, 1)
    loads = sum(job.result.processing_metrics.stage_sec["load"] > 0 for job in jobs)
    assert loads > len(models) + 2, "no model was ever evicted and loaded again"
    third = len(memory) // 3
    growth = median(memory[-third:]) - median(memory[:third])
    assert growth < GROWTH_MB, f"the engine has grown by {growth:.0f} MB: {[round(m) for m in memory[::8]]}"
