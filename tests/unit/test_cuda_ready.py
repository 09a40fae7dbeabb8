"""What a machine without a GPU can prove of code for one: no launch mixes devices, no graph needs the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real device, and tests/gpu")

from tests import ace_step_checkpoint as songs  # noqa: E402
from tests import musicgen_checkpoint as pieces  # noqa: E402
from tests.pretend_cuda import Device, outside, pretend_cuda  # noqa: E402

from soundfleet_schemas import (  # noqa: E402
    CATALOG,
    REFERENCE,
    SOURCE,
    Precision,
    SchedulerType,
    SeparationRequest,
    StemSeparationOptions,
    Task,
)
from soundfleet_worker.ace_step.launches import Sizes  # noqa: E402
from soundfleet_worker.ace_step.song import Song  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepModel  # noqa: E402
from soundfleet_worker.backends.contract import EngineJob, ModelConfig, Run  # noqa: E402
from soundfleet_worker.backends.demucs import DemucsModel  # noqa: E402
from soundfleet_worker.backends.musicgen import MusicGenModel  # noqa: E402
from soundfleet_worker.musicgen import launch  # noqa: E402
from soundfleet_worker.musicgen import loading as musicgen_loading  # noqa: E402
from soundfleet_worker.musicgen.pace import Pace  # noqa: E402
from soundfleet_worker.separation import loading as demucs_loading  # noqa: E402

PACE = Pace(span=8, fill=64, others=2)
SLOTS = 4
MINI = CATALOG["htdemucs_mini"]


@pytest.fixture(autouse=True)
def device() -> Iterator[Device]:
    """A pretended GPU, on one core: what is computed is too small to share out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pretend_cuda() as pretended:
        yield pretended
    torch.set_num_threads(threads)


def waits_of(device: Device, work: Callable[[], object]) -> list[str]:
    """For what a piece of work waits."""
    before = len(device.waits)
    work()
    return device.waits[before:]


def test_devices_that_mix_are_noticed() -> None:
    """Also a generator of another one; a copy and an index may come from the host."""
    values = torch.zeros(4, device="cuda:0")
    assert values.device.type == "cuda"
    values[torch.arange(2)] = 1.0
    assert (values + 1.0).tolist() == [2.0, 2.0, 1.0, 1.0]
    with pytest.raises(AssertionError, match="mixes devices"):
        values + torch.ones(4)
    with pytest.raises(AssertionError, match="generator on cpu"):
        torch.randn(4, generator=torch.Generator(), device="cuda:0")
    with pytest.raises(RuntimeError):
        values.numpy()


@pytest.mark.parametrize(
    "work",
    [
        lambda values: values.sum().item(),
        lambda values: values[values > 0],
        lambda values: values.cpu(),
        lambda values: torch.tensor([1.0], device=values.device),
        lambda values: values[torch.arange(2)],
        lambda values: values.nonzero(),
    ],
)
def test_a_graph_that_needs_the_host_is_noticed(work: Callable[[Any], object]) -> None:
    """Waiting for the device, or copying from the host."""
    values = torch.zeros(4, device="cuda:0")
    with (
        torch.inference_mode(),
        pytest.raises(AssertionError, match=r"in a graph"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        work(values)


def test_a_replay_computes_in_the_memory_of_its_capture() -> None:
    """And is refused when that was freed."""
    with torch.inference_mode():
        values, graph = torch.zeros(2, device="cuda:0"), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            values += values + 1
        values.fill_(3.0)
        graph.replay()
        assert values.tolist() == [7.0, 7.0]
        del values
        with pytest.raises(AssertionError, match="memory that was freed"):
            graph.replay()


KINDS: dict[str, dict[str, Any]] = {
    "plain": {"inputs": (SOURCE,), "channels": 1},
    "stereo melody": {"inputs": (SOURCE, REFERENCE), "channels": 2},
}
Load = Callable[..., MusicGenModel]


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    """Of a checkpoint."""
    return str(request.param)


@pytest.fixture(scope="module")
def directory(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models with one tiny checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    with outside():
        pieces.save_checkpoint(folder / pieces.NAME, melody="melody" in kind, stereo="stereo" in kind)
    return folder


@pytest.fixture
def musicgen(kind: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads the checkpoint onto a device, with graphs of several reaches."""
    monkeypatch.setattr(musicgen_loading, "_read", outside()(musicgen_loading._read))
    monkeypatch.setattr(launch, "REACHES", (16, 64))

    def load(precision: Precision, where: str = "cuda:0") -> MusicGenModel:
        source, spec = ModelConfig(model_dir=directory, precision=precision), pieces.spec_of(**KINDS[kind])
        with torch.inference_mode():
            checkpoint = musicgen_loading.load(spec, source, torch.device(where))
            return MusicGenModel(spec, checkpoint, SLOTS, PACE)

    return load


def test_musicgen_decodes_on_the_device_what_it_decodes_on_the_cpu(
    kind: str, tmp_path: Path, device: Device, musicgen: Load
) -> None:
    """From replayed graphs: a prompt, a melody and a continuation, guided and not, side by side."""
    sound = 0.1 * np.random.default_rng(0).standard_normal((2, 2 * pieces.RATE))
    followed = {REFERENCE: sound} if "melody" in kind else {}

    def jobs() -> list[EngineJob]:
        return [
            pieces.job_of(tmp_path, "warm lofi", seconds=9, temperature=0.0, inputs=followed),
            pieces.job_of(tmp_path, "x", seconds=5, seed=3, guidance=1.0, top_k=20),
            pieces.job_of(tmp_path, "tape", seconds=5, seed=4, inputs={SOURCE: sound}),
        ]

    ours = pieces.play(musicgen(Precision.Float32), jobs())
    assert len(device.captured) >= 2
    assert all(graph.replays for graph in device.captured)
    with outside():
        expected = pieces.play(musicgen(Precision.Float32, "cpu"), jobs())
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(pieces.samples_of(one), pieces.samples_of(other), atol=1e-4)


def test_a_span_of_tokens_does_not_wait_for_the_device_between_them(
    tmp_path: Path, device: Device, musicgen: Load
) -> None:
    """At its end only, to see what it has drawn, and whether that is numbers; in half precision too."""
    model = musicgen(Precision.BFloat16)
    run = model.begin(pieces.job_of(tmp_path, "warm lofi", seconds=9, seed=1))
    model.step([run])
    assert run.current_step == PACE.span
    assert len(waits_of(device, lambda: model.step([run]))) <= 2
    assert run.current_step == 2 * PACE.span


def no_memory() -> torch.Tensor:
    """What torch raises."""
    raise torch.OutOfMemoryError("CUDA out of memory.")


def test_graphs_are_captured_anew_when_the_slots_have_moved(
    tmp_path: Path, musicgen: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them reads what was freed, also when memory runs out while the slots grow."""
    monkeypatch.setattr(launch, "REACHES", ())
    model, zeros = musicgen(Precision.Float32), torch.zeros
    run = model.begin(pieces.job_of(tmp_path, "warm lofi", seconds=9))
    model.step([run])
    assert model.shrink()
    model.step([run])
    assert model.grow()
    left = iter([1, 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "zeros", lambda *size, **how: zeros(*size, **how) if next(left, 0) else no_memory())
        other = model.begin(pieces.job_of(tmp_path, "x", seconds=5))
    model.step([run])
    assert model.grow()
    last = model.begin(pieces.job_of(tmp_path, "y", seconds=5))
    pieces.finish_all(model, [run, other, last])
    assert np.isfinite(pieces.samples_of(model.finish(run))).all()


def song_model(folder: Path, dtype: torch.dtype) -> AceStepModel:
    """Load a checkpoint on the CPU and move its modules, as a worker's load ends."""
    with outside():
        small = songs.load(folder)
    where = torch.device("cuda:0")
    moved = {
        field.name: part.to(where, dtype)
        for field in dataclasses.fields(small._parts)
        if isinstance(part := getattr(small._parts, field.name), torch.nn.Module)
    }
    parts = dataclasses.replace(small._parts, device=where, dtype=dtype, **moved)
    return AceStepModel(small.spec, parts, folder.parent / "loras", Sizes(10**9, 3, 1, 64))


def latents_of(model: AceStepModel, jobs: list[EngineJob]) -> list[torch.Tensor]:
    """Denoise together; returns what would be decoded."""
    runs = [cast(Song, model.begin(job)) for job in jobs]
    while going := [run for run in runs if not run.solver.done]:
        model.step(going)
    return [run.solver.x.cpu() for run in runs]


def test_songs_are_on_the_device_what_they_are_on_the_cpu(tmp_path: Path) -> None:
    """With guidance, by every solver, in one launch."""
    with outside():
        folder = songs.build(tmp_path / "acestep-v15-base", turbo=False)
    spec = songs.spec_of(folder.name)

    def jobs() -> list[EngineJob]:
        return [songs.job_of(spec, tmp_path, scheduler=solver, inference_steps=2) for solver in SchedulerType]

    ours = latents_of(song_model(folder, torch.float32), jobs())
    with outside():
        expected = latents_of(songs.load(folder), jobs())
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_song_from_a_source_stays_on_the_device(tmp_path: Path) -> None:
    """A cover with a LoRA, in half precision: encoder, tokenizer, two opinions, the decoder's first tile."""
    with outside():
        folder = songs.build(tmp_path / "acestep-v15-turbo")
        songs.build_lora(tmp_path / "loras", "soft")
        source = songs.recording(tmp_path / "source.npy", 5)
    spec = songs.spec_of(folder.name)
    asked: dict[str, Any] = {"task": Task.cover, "cover_strength": 0.5, "lora": "soft", "inference_steps": 1}
    job = songs.job_of(spec, tmp_path, inputs={SOURCE: source}, **asked)
    model = song_model(folder, torch.bfloat16)
    run = cast(Song, model.begin(job))
    while not run.decoded:
        model.step([run])
    assert run.track is not None
    assert np.abs(run.track.audio).max() > 0.0


def separation_of(folder: Path, **options: Any) -> EngineJob:
    """A job over two seconds of noise."""
    folder.mkdir()
    noise = np.random.default_rng(0).standard_normal((2, 2 * MINI.sample_rate))
    np.save(folder / "mix.npy", (0.1 * noise).astype(np.float32))
    request = SeparationRequest(source="s3://b/k", options=StemSeparationOptions(model=MINI.backend, **options))
    return EngineJob("job", request, MINI, {SOURCE: folder / "mix.npy"}, folder)


def test_a_separation_in_half_precision_is_that_of_the_cpu(tmp_path: Path, device: Device) -> None:
    """But for rounding; a launch waits for nothing but Demucs' own padding, which looks at itself."""

    def separate(where: str, precision: Precision) -> dict[str, np.ndarray]:
        with outside():
            bag, _names = demucs_loading.load(MINI, ModelConfig(offline=True))
        model = DemucsModel(MINI, bag, where, slots=1, precision=precision)
        run: Run = model.begin(separation_of(tmp_path / where, two_stems="vocals", normalize=True))
        assert len(waits_of(device, lambda: model.step([run]))) <= 1
        assert run.done
        return dict(model.finish(run).audio)

    ours = separate("cuda:0", Precision.BFloat16)
    with outside():
        expected = separate("cpu", Precision.Float32)
    for name, stem in expected.items():
        np.testing.assert_allclose(ours[name], stem, atol=0.02)
