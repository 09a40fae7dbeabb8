"""MusicGen on a real GPU: the graph decodes what the CPU decodes, in any company, and gives memory back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

from tests.musicgen_checkpoint import (  # noqa: E402
    NAME,
    RATE,
    finish_all,
    job_of,
    play,
    samples_of,
    save_checkpoint,
    spec_of,
)

from soundfleet_schemas import CATALOG, Precision  # noqa: E402
from soundfleet_worker.backends.contract import ModelConfig  # noqa: E402
from soundfleet_worker.backends.musicgen import MusicGenFactory, MusicGenModel  # noqa: E402
from soundfleet_worker.engine.devices import take_device  # noqa: E402
from soundfleet_worker.musicgen import launch  # noqa: E402
from soundfleet_worker.musicgen.piece import Piece  # noqa: E402

PROMPTS = ("warm lofi", "a very slow piece for rain, tape and piano", "x")


@pytest.fixture(scope="module", autouse=True)
def device() -> None:
    """As an engine takes it: deterministic kernels, and the current one."""
    take_device("cuda:0")


@pytest.fixture(scope="module", params=["plain", "melody"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models with one tiny checkpoint, named after its kind."""
    folder = tmp_path_factory.mktemp(request.param)
    save_checkpoint(folder / NAME, melody=request.param == "melody")
    return folder


def load(directory: Path, device: str, precision: Precision = Precision.Float32) -> MusicGenModel:
    """Load it as an engine does."""
    source = ModelConfig(model_dir=directory, precision=precision)
    spec = spec_of(inputs=CATALOG["musicgen_melody" if directory.name.startswith("melody") else "musicgen"].inputs)
    model = MusicGenFactory(spec, source).load(device, lambda _status, _percent: None)
    assert isinstance(model, MusicGenModel)
    return model


def codes(model: MusicGenModel, tmp_path: Path, prompts: Sequence[str]) -> list[torch.Tensor]:
    """Greedy tokens of pieces that begin one step apart."""
    runs: list[Piece] = []
    for prompt in prompts:
        run = model.begin(job_of(tmp_path, prompt, seconds=40, temperature=0.0))
        assert isinstance(run, Piece)
        runs.append(run)
        model.step([run for run in runs if not run.done])
    finish_all(model, runs)
    for run in runs:
        model.finish(run)
    return [run.codes for run in runs]


def test_the_graph_decodes_what_the_cpu_decodes(directory: Path, tmp_path: Path) -> None:
    """In float32 and greedily, over two windows."""
    expected = codes(load(directory, "cpu"), tmp_path, PROMPTS)
    for ours, theirs in zip(codes(load(directory, "cuda:0"), tmp_path, PROMPTS), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("precision", [Precision.Auto, Precision.Float32])
def test_company_changes_nothing(directory: Path, tmp_path: Path, precision: Precision) -> None:
    """Alone, and among others of other lengths, sampled, whose graphs reach further."""
    model = load(directory, "cuda:0", precision)
    (alone,) = play(model, [job_of(tmp_path, PROMPTS[1], seconds=9, seed=5)])
    others = [job_of(tmp_path, "y" * (i + 1), seconds=6 + 5 * i, seed=i) for i in range(8)]
    among = play(model, [*others[:4], job_of(tmp_path, PROMPTS[1], seconds=9, seed=5), *others[4:]])
    assert np.array_equal(samples_of(alone), samples_of(among[4]))
    assert [output.audio["track"].shape[1] for output in among[:4]] == [(6 + 5 * i) * RATE for i in range(4)]


def test_fewer_slots_take_less_memory(directory: Path, tmp_path: Path) -> None:
    """And the pieces in them go on."""
    model = load(directory, "cuda:0")
    run = model.begin(job_of(tmp_path, PROMPTS[0], seconds=30, seed=5))
    model.step([run])
    before = torch.cuda.memory_allocated()
    assert model.shrink()
    assert torch.cuda.memory_allocated() < before
    finish_all(model, [run])
    assert np.isfinite(samples_of(model.finish(run))).all()


def test_graphs_of_every_reach_decode_the_same_tokens(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short ones first, then longer ones; and again after slots were given back and taken."""
    expected = codes(load(directory, "cuda:0"), tmp_path, PROMPTS)
    monkeypatch.setattr(launch, "REACHES", (64, 96, 128))
    model = load(directory, "cuda:0")
    for again in range(2):
        for ours, theirs in zip(codes(model, tmp_path, PROMPTS), expected, strict=True):
            assert torch.equal(ours, theirs), again
        assert model.shrink()
        assert model.grow()


def test_a_piece_that_is_discarded_gives_its_memory_back(directory: Path, tmp_path: Path) -> None:
    """A second one takes no more than the first."""
    model = load(directory, "cuda:0")
    held = []
    for seed in range(3):
        run = model.begin(job_of(tmp_path, PROMPTS[0], seconds=30, seed=seed))
        for _ in range(2):
            model.step([run])
        model.discard(run)
        del run
        torch.cuda.synchronize()
        held.append(torch.cuda.memory_allocated())
    assert held[1] == held[2]
