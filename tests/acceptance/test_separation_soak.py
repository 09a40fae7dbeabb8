"""Two hundred queued jobs of mixed models on one device: every one right, and no memory lost on the way."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from tests import media
from tests.checkpoints import write_models
from tests.fleet import Fleet
from tests.listening import read, snr_db
from tests.media import Signal
from tests.waiting import wait_until
from tests.workers import WorkerProcess

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
BUDGET_MB = 4_600
"""Little more than the largest models ask for before they are loaded: all but the smallest must make room for them."""
GROWTH_MB = 48.0
"""Of the engine's memory over a hundred jobs, each of which makes more than 1.5 MB of stems."""
LARGE = ("mdx", "mdx_extra")
"""Each leaves no room for the other."""
ROUNDS = 5
RIGHT_DB = 60.0
AUTO_DB = 25.0
"""In bfloat16, and of random weights: a trained model keeps more."""
SECONDS = (1.0, 1.3)


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
    Ask(24, "htdemucs_mini"),
    Ask(16, "htdemucs_mini", (("remove_vocals", True), ("output_format", "flac"))),
    Ask(15, "htdemucs_mini", (("stems", ("bass",)), ("normalize", True))),
    Ask(10, "htdemucs_mini", (("segment_duration", 2.0), ("overlap_duration", 0.3))),
    Ask(5, "htdemucs_mini", (("shifts", 2), ("seed", 11))),
    Ask(12, "hdemucs_mmi"),
    Ask(6, "mdx"),
    Ask(4, "mdx", (("stems", ("bass",)),)),
    Ask(4, "mdx_extra", (("normalize", True),)),
    Ask(5, "htdemucs"),
    Ask(4, "htdemucs_6s", (("stems", ("piano", "vocals")),)),
    Ask(4, "htdemucs_ft", (("stems", ("drums",)),)),
    Ask(81, "sketch"),
)
AGAIN = {ask.model: ask for ask in ASKS if ask.model in LARGE}
"""What is asked of the large models in turns, one at a time, when the queue is empty."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For Demucs' own answers: small models gain nothing from more, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Truth:
    """What each kind of job must give of each song: Demucs' own answer, and the sum rule on top of it."""

    def __init__(self, folder: Path, songs: list[Signal], least_db: float = RIGHT_DB) -> None:
        self._folder, self._songs, self._least_db = folder, songs, least_db
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
            wrong = _differences(self._stems(ask, song), heard, self._least_db)
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
        with mock.patch("demucs.apply.random", random.Random(options.seed)):  # the job's own generator, and only its
            said = apply_model(bag, scaled, shifts=options.shifts or 0, overlap=overlap, segment=segment)[0].numpy()
        said = said * std + mean
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


def _differences(wanted: dict[str, Signal], heard: dict[str, Signal], least_db: float) -> list[str]:
    if set(wanted) != set(heard):
        return [f"the stems are {', '.join(heard)}"]
    wrong = [f"{name} has {heard[name].shape}" for name, stem in wanted.items() if stem.shape != heard[name].shape]
    return wrong or [
        f"{name} is {level:.0f} dB from Demucs' own"
        for name, stem in wanted.items()
        if (level := snr_db(stem, heard[name])) < least_db
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


def _run(fleet: Fleet, requests: list[JobRequest], engine: int) -> tuple[list[Job], list[float]]:
    """Submit all at once; return how they ended, and what the engine's memory was as each of them did."""
    before = _finished(fleet)
    samples: list[float] = []
    answers = fleet.producer.submit_many(requests)
    assert all(isinstance(answer, Submitted) for answer in answers), answers

    def ended() -> bool:
        done = _finished(fleet) - before
        if len(samples) < done:
            samples.extend([_memory_mb(engine)] * (done - len(samples)))
        return done == len(requests)

    wait_until(ended, f"the end of {len(requests)} jobs", timeout=480)
    return [fleet.producer.status(request.id) for request in requests], samples


def _growth_mb(samples: list[float]) -> float:
    """What the second half of the jobs would add to the engine's memory in a hundred, by the line through it."""
    late = samples[len(samples) // 2 :]
    return float(np.polyfit(np.arange(len(late)), late, 1)[0]) * 100


def _wrong(fleet: Fleet, truth: Truth, order: list[tuple[Ask, int]], jobs: list[Job]) -> dict[str, str]:
    """Complaints of jobs that are not as they must be, or needed a second attempt."""
    found = {}
    for (ask, song), job in zip(order, jobs, strict=True):
        complaint = truth.complaint(fleet, ask, song, job)
        if complaint is None and job.attempt != 1:
            complaint = f"{job.attempt} attempts"
        if complaint:
            found[f"{ask.model} {dict(ask.options)} of song {song}"] = complaint
    return found


def _mixed(songs: int) -> list[tuple[Ask, int]]:
    """Two hundred jobs: one of each kind, then the rest in an order of chance, then the large models in turns."""
    chance = random.Random(7)
    spread = {"htdemucs_mini": songs}
    last = [(AGAIN[model], 0) for _ in range(ROUNDS) for model in LARGE]
    shares = [(ask, ask.share - 1) for ask in ASKS]
    middle = [(ask, chance.randrange(spread.get(ask.model, 1))) for ask, share in shares for _ in range(share)]
    chance.shuffle(middle)
    order = [(ask, 0) for ask in ASKS] + middle + last
    assert len(order) == JOBS
    return order


def _start(fleet: Fleet, folder: Path, services: Iterable[str], precision: str) -> WorkerProcess:
    return fleet.start(
        SOUNDFLEET_ONLY=",".join(services),
        SOUNDFLEET_MODEL_DIR=str(folder),
        SOUNDFLEET_MEMORY_MB=str(BUDGET_MB),
        SOUNDFLEET_PRECISION=precision,
        SOUNDFLEET_SLOTS="8",
        SOUNDFLEET_THREADS="1",
    )


@pytest.mark.timeout(600)
def test_two_hundred_jobs_of_mixed_models_are_right_and_leave_no_memory_behind(fleet: Fleet, tmp_path: Path) -> None:
    """Models come and go on a budget that holds few of them; the first of each kind is left out of the measurement."""
    folder = tmp_path / "models"
    services = [f"separate.{name}" for name in ("htdemucs_mini", *write_models(folder))]
    songs = [media.music(seconds, seed=n) for n, seconds in enumerate(SECONDS)]
    sources = [
        fleet.producer.upload(media.make(tmp_path, "wavfloat", song, name=f"{n}.wav")) for n, song in enumerate(songs)
    ]
    order = _mixed(len(songs))
    requests = [_request(ask, sources[song]) for ask, song in order]
    first, turns = len(ASKS), JOBS - ROUNDS * len(LARGE)
    worker = _start(fleet, folder, [*services, "generate.sketch"], "fp32")
    engine = worker.engine_pid
    jobs, _ = _run(fleet, requests[:first], engine)
    more, mixed = _run(fleet, requests[first:turns], engine)
    one_by_one = [_run(fleet, [request], engine) for request in requests[turns:]]
    alone = [job for ended, _ in one_by_one for job in ended]
    assert not _wrong(fleet, Truth(folder, songs), order, [*jobs, *more, *alone])
    assert (worker.process.poll(), worker.engine_pid, len(worker.events("engine ready"))) == (None, engine, 1)
    loads = [job.result.processing_metrics.stage_sec["load"] for job in alone]
    assert all(loads[1:]), f"a large model was not evicted by the other: {loads}"  # the first may be warm of before
    growth = _growth_mb(mixed)
    assert growth < GROWTH_MB, f"the engine grows by {growth:.0f} MB in a hundred jobs: {mixed[::8]}"
    rounds = [memory[-1] for _, memory in one_by_one[len(LARGE) :: len(LARGE)]]
    assert max(rounds) - rounds[0] < GROWTH_MB, f"models that come and go leave memory behind: {rounds}"


@pytest.mark.timeout(120)
def test_in_the_precision_that_workers_choose_the_stems_are_nearly_the_same(fleet: Fleet, tmp_path: Path) -> None:
    """bfloat16 where the processor has it."""
    song = media.music(SECONDS[0], seed=0)
    source = fleet.producer.upload(media.make(tmp_path, "wavfloat", song))
    worker = _start(fleet, tmp_path, ["separate.htdemucs_mini"], "auto")
    ask = ASKS[0]
    jobs, _ = _run(fleet, [_request(ask, source) for _ in range(4)], worker.engine_pid)
    assert not _wrong(fleet, Truth(tmp_path, [song], AUTO_DB), [(ask, 0)] * len(jobs), jobs)
