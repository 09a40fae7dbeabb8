"""A piece sounds the same whoever else is being made: alone, among others, joining midway, on a cold or warm model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")

from tests.musicgen_checkpoint import (  # noqa: E402
    NAME,
    RATE,
    finish_all,
    job_of,
    load_model,
    play,
    samples_of,
    save_checkpoint,
    spec_of,
)

from soundfleet_schemas import Precision, SoundfleetError, Stage  # noqa: E402
from soundfleet_worker.backends.contract import EngineJob, ModelConfig, Run  # noqa: E402
from soundfleet_worker.backends.musicgen import MusicGenFactory, MusicGenModel  # noqa: E402
from soundfleet_worker.engine.loop import Engine  # noqa: E402
from soundfleet_worker.engine.wire import Cancel, Cancelled, Finished, FromEngine, Progress, Start  # noqa: E402
from soundfleet_worker.musicgen.pace import Pace  # noqa: E402
from soundfleet_worker.musicgen.piece import Phase, Piece  # noqa: E402

PACE = Pace(span=4, fill=6, others=1)
PROMPTS = ("warm lofi", "rain on a tin roof, slow piano, tape noise", "x", "drums", "a", "long walk home", "bass", "y")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models with one tiny checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    save_checkpoint(folder / NAME)
    return folder


@pytest.fixture
def model(directory: Path) -> MusicGenModel:
    """A model that was just loaded, with the slots of a CPU."""
    return load_model(directory)


def short(model: MusicGenModel, slots: int) -> MusicGenModel:
    """The same checkpoint in other slots."""
    with torch.inference_mode():
        return MusicGenModel(model.spec, model._checkpoint, slots, PACE)


def test_the_same_seed_sounds_the_same_in_any_company(model: MusicGenModel, directory: Path, tmp_path: Path) -> None:
    """Alone on a cold model, again on the warm one, as the third of eight, and joining midway."""

    def job() -> EngineJob:
        return job_of(tmp_path, PROMPTS[2], seconds=7, seed=11)

    (alone,) = [samples_of(output) for output in play(model, [job()])]
    (warm,) = [samples_of(output) for output in play(model, [job()])]
    others = [job_of(tmp_path, prompt, seconds=5 + i, seed=i) for i, prompt in enumerate(PROMPTS)]
    third = samples_of(play(model, [*others[:2], job(), *others[3:]])[2])

    first = [model.begin(other) for other in others[:4]]
    for _ in range(2):
        model.step(first)
    late = model.begin(job())
    finish_all(model, [*first, late])
    joined = samples_of(model.finish(late))
    for run in first:
        model.finish(run)
    (cold,) = [samples_of(output) for output in play(load_model(directory), [job()])]
    for other in (warm, third, joined, cold):
        assert np.array_equal(alone, other)


def test_seeds_differ_in_all_their_64_bits(model: MusicGenModel, tmp_path: Path) -> None:
    """Not only in the low ones, as a generator of 32 bits would have it."""
    seeds = (1, 2, 1 + 2**32, 2**64 - 1)
    tracks = [samples_of(output) for output in play(model, [job_of(tmp_path, seconds=5, seed=s) for s in seeds])]
    assert all(not np.array_equal(tracks[i], tracks[j]) for i in range(4) for j in range(i))


def test_settings_of_one_piece_do_not_touch_another(model: MusicGenModel, tmp_path: Path) -> None:
    """Greedy, guided and unguided, top-k and top-p side by side."""
    settings = ({"temperature": 0.0}, {"guidance": 1.0}, {"top_k": 3}, {"top_p": 0.7}, {"top_k": 0, "temperature": 1.5})

    def jobs() -> list[EngineJob]:
        return [job_of(tmp_path, seconds=5, seed=4, **how) for how in settings]

    together = [samples_of(output) for output in play(model, jobs())]
    alone = [samples_of(play(model, [job])[0]) for job in jobs()]
    assert all(np.array_equal(one, other) for one, other in zip(together, alone, strict=True))
    assert all(not np.array_equal(together[i], together[j]) for i in range(5) for j in range(i))


def test_a_piece_that_leaves_changes_nothing_for_the_others(model: MusicGenModel, tmp_path: Path) -> None:
    """Cancelled in each phase: while its source is heard, it is filled, drawn and sounded."""
    room = short(model, slots=3)
    source = np.random.default_rng(5).normal(scale=0.3, size=(2, 4 * RATE))
    expected = samples_of(play(room, [job_of(tmp_path, PROMPTS[1], seconds=8, seed=7)])[0])
    for phase in (Phase.hear, Phase.fill, Phase.draw, Phase.sound):
        stays = room.begin(job_of(tmp_path, PROMPTS[1], seconds=8, seed=7))
        leaves = room.begin(job_of(tmp_path, PROMPTS[0], seconds=6, seed=3, inputs={"source": source}))
        assert isinstance(leaves, Piece)
        while leaves.phase is not phase:
            room.step([run for run in (stays, leaves) if not run.done])
        room.discard(leaves)
        finish_all(room, [stays])
        assert np.array_equal(samples_of(room.finish(stays)), expected)
        assert room._studio.slots.free == [0, 1, 2]


def test_a_piece_that_breaks_ends_with_an_error_and_leaves_no_trace(model: MusicGenModel, tmp_path: Path) -> None:
    """Numbers that are none, in one slot: its piece is told apart at once, the others and its slot's heir are right."""
    room = short(model, slots=2)
    expected = samples_of(play(room, [job_of(tmp_path, PROMPTS[1], seconds=8, seed=7)])[0])
    stays = room.begin(job_of(tmp_path, PROMPTS[1], seconds=8, seed=7))
    breaks = room.begin(job_of(tmp_path, PROMPTS[0], seconds=8, seed=3))
    room.step([stays, breaks])
    assert isinstance(breaks, Piece)
    assert breaks.seat is not None
    with torch.inference_mode():
        room._studio.slots.cache.values[0][breaks.seat.slot].fill_(float("nan"))
    room.step([stays, breaks])
    assert breaks.done
    with pytest.raises(SoundfleetError, match=r"MODEL_INFERENCE_FAILED: .* no number after .* fp32"):
        room.finish(breaks)
    heir = room.begin(job_of(tmp_path, PROMPTS[1], seconds=8, seed=7))
    finish_all(room, [stays, heir])
    assert np.array_equal(samples_of(room.finish(stays)), expected)
    assert np.array_equal(samples_of(room.finish(heir)), expected)


def test_twenty_pieces_of_five_lengths_share_four_slots(model: MusicGenModel, tmp_path: Path) -> None:
    """All end, each at its own length, its own steps, and with the sound that it has alone."""
    room = short(model, slots=4)
    jobs = [job_of(tmp_path, PROMPTS[i % 8], seconds=5 + i % 5, seed=i) for i in range(20)]
    waiting, active, tracks = list(jobs), [], {}
    runs: dict[Run, EngineJob] = {}
    while waiting or active:
        while waiting and len(active) < room.max_runs:
            job = waiting.pop(0)
            active.append(room.begin(job))
            runs[active[-1]] = job
        before = [run.current_step for run in active]
        room.step(active)
        assert all(old <= run.current_step <= run.total_steps for old, run in zip(before, active, strict=True))
        for run in [run for run in active if run.done]:
            active.remove(run)
            assert run.current_step == run.total_steps
            tracks[runs[run].job_id] = samples_of(room.finish(run))
    for i, job in enumerate(jobs):
        assert tracks[job.job_id].shape == (1, (5 + i % 5) * RATE)
    for i in (0, 7, 13, 19):
        (alone,) = play(room, [job_of(tmp_path, PROMPTS[i % 8], seconds=5 + i % 5, seed=i)])
        assert np.array_equal(tracks[jobs[i].job_id], samples_of(alone))


def test_a_step_that_failed_may_be_repeated(
    model: MusicGenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out at every third pass through the decoder; the piece is what it would have been."""
    room = short(model, slots=2)
    source = np.random.default_rng(5).normal(scale=0.3, size=(2, 4 * RATE))

    def job() -> EngineJob:
        return job_of(tmp_path, PROMPTS[0], seconds=7, seed=5, inputs={"source": source})

    expected = samples_of(play(room, [job()])[0])
    forward, calls = room._studio._network.forward, iter(range(10_000))

    def scarce(*args: object) -> torch.Tensor:
        if next(calls) % 3 == 2:
            raise MemoryError
        return forward(*args)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(room._studio._network, "forward", scarce)
    run, failed = room.begin(job()), 0
    while not run.done:
        try:
            room.step([run])
        except MemoryError:
            failed += 1
    assert failed > 5
    assert np.array_equal(samples_of(room.finish(run)), expected)


def test_slots_are_halved_when_memory_runs_out_and_come_back(model: MusicGenModel, tmp_path: Path) -> None:
    """Pieces that are in the way of neither go on where they were."""
    room = short(model, slots=4)
    expected = [play(room, [job_of(tmp_path, prompt, seconds=6, seed=9)])[0] for prompt in PROMPTS[:2]]
    runs = [room.begin(job_of(tmp_path, prompt, seconds=6, seed=9)) for prompt in ("x", *PROMPTS[:2])]
    room.step(runs)
    assert not room.shrink(), "three pieces do not fit two slots"
    room.discard(runs.pop(0))
    before = room.memory_bytes
    assert room.shrink()
    assert room.memory_bytes < before
    assert room.max_runs == 3
    room.step(runs)
    assert room.grow()
    runs.append(room.begin(job_of(tmp_path, "x", seconds=5)))
    assert room.memory_bytes == before
    assert not room.grow()
    finish_all(room, runs)
    for run, other in zip(runs, expected, strict=False):
        np.testing.assert_allclose(samples_of(room.finish(run)), samples_of(other), atol=1e-4)


def test_slots_that_cannot_even_be_made_fewer_go_on_in_the_memory_of_all(
    model: MusicGenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making them fewer takes memory on the way, when there is none; the pieces are what they would have been."""
    room, copies = short(model, slots=4), iter(range(100))
    clone = torch.Tensor.clone

    def scarce(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 5 and next(copies) >= 2:
            raise MemoryError
        return clone(tensor)

    expected = [play(room, [job_of(tmp_path, prompt, seconds=6, seed=9)])[0] for prompt in PROMPTS[:2]]
    runs = [room.begin(job_of(tmp_path, prompt, seconds=6, seed=9)) for prompt in ("x", *PROMPTS[:2])]
    room.step(runs)
    room.discard(runs.pop(0))
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "clone", scarce)
        assert room.shrink()
    assert next(copies) > 2
    finish_all(room, runs)
    for run, other in zip(runs, expected, strict=True):
        np.testing.assert_allclose(samples_of(room.finish(run)), samples_of(other), atol=1e-4)


def test_an_engine_makes_several_pieces_and_cancels_one(directory: Path, tmp_path: Path) -> None:
    """Through the loop that every backend runs in: loaded on demand, cancelled midway, delivered from scratch."""
    source = ModelConfig(model_dir=directory, precision=Precision.Float32)
    said: list[FromEngine] = []
    factories = {"musicgen": MusicGenFactory(spec_of(memory_mb=64), source)}
    engine = Engine(factories, device="cpu", budget_bytes=1 << 30, send=said.append, progress_every_sec=0.0)
    jobs = [job_of(tmp_path, prompt, seconds=6, seed=3) for prompt in PROMPTS[:3]]
    for job in jobs:
        start = Start(
            run=job.job_id, job_id=job.job_id, request=job.request, backend="musicgen", scratch=str(job.scratch)
        )
        engine.handle(start)
    engine.tick()
    engine.handle(Cancel(run=jobs[1].job_id))
    while engine.tick():
        pass
    engine.close()
    (cancelled,) = [message for message in said if isinstance(message, Cancelled)]
    assert (cancelled.run, 0 < cancelled.current_step < cancelled.total_steps) == (jobs[1].job_id, True)
    finished = {message.run: message for message in said if isinstance(message, Finished)}
    assert set(finished) == {jobs[0].job_id, jobs[2].job_id}
    (output,) = finished[jobs[0].job_id].outputs
    assert np.load(output.path).shape == (1, 6 * RATE)
    assert {message.stage for message in said if isinstance(message, Progress)} >= {Stage.infer, Stage.decode}
