"""The training of htdemucs_mini and the weights that came out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from demucs.htdemucs import HTDemucs
from safetensors.torch import save_file

from soundfleet_worker.sketch import STEMS, compose
from soundfleet_worker.training.architecture import MINI, SAMPLE_RATE, build, parameters
from soundfleet_worker.training.checkpoint import Checkpoint
from soundfleet_worker.training.evaluate import RULES, evaluate, improvement_db, si_sdr, table, unseen
from soundfleet_worker.training.export import MAX_BYTES, NAME, export
from soundfleet_worker.training.loop import Plan, train
from soundfleet_worker.training.loss import separation_loss
from soundfleet_worker.training.pool import TRAINING_SEEDS, Mixing, Pool
from soundfleet_worker.weights import FOLDER, load_bag, load_htdemucs_mini

TINY = {**MINI, "channels": 8, "bottom_channels": 16, "t_layers": 1, "t_heads": 2, "segment": 1, "nfft": 2048}


def tiny_plan(out: Path, steps: int) -> Plan:
    return Plan(out=out, steps=steps, batch=2, pool=2, renew_every=1, shape=dict(TINY))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    out = tmp_path_factory.mktemp("training") / "tiny.ckpt"
    return out, train(tiny_plan(out, 2), report=lambda _: None)


def test_two_steps_of_training_write_a_checkpoint(trained: tuple[Path, Checkpoint]) -> None:
    """The file holds what the run returned, and nothing half-written lies beside it."""
    out, state = trained
    read = Checkpoint.load(out)
    assert (read.step, state.step) == (2, 2)
    assert read.shape == TINY
    assert all(torch.equal(read.average[name], tensor) for name, tensor in state.average.items())
    assert [file.name for file in out.parent.iterdir()] == ["tiny.ckpt"]


def test_training_goes_on_where_it_was(trained: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    """A resumed run counts on and changes the weights."""
    _, state = trained
    more = train(tiny_plan(tmp_path / "more.ckpt", 3), Checkpoint.load(trained[0]), report=lambda _: None)
    assert more.step == 3
    assert any(not torch.equal(more.model[name], tensor) for name, tensor in state.model.items())


def test_a_checkpoint_is_exported_in_the_layout_of_the_hub(trained: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    """Demucs' own reader builds the model; an older export is replaced."""
    (tmp_path / "0ld.safetensors").write_bytes(b"")
    file = export(trained[1], tmp_path)
    bag = load_bag(NAME, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, f"{NAME}.yaml"])
    assert isinstance(bag.models[0], HTDemucs)
    assert not bag.training
    name, tensor = next(iter(trained[1].average.items()))
    assert torch.allclose(bag.models[0].state_dict()[name], tensor, atol=1e-3)


def test_a_missing_weights_file_is_named(trained: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    """The error tells what to restore and where."""
    file = export(trained[1], tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=file.name):
        load_bag(NAME, tmp_path)


def test_a_file_that_names_a_foreign_class_is_refused(tmp_path: Path) -> None:
    """Metadata must not make the reader call whatever it likes."""
    save_file({"x": torch.zeros(1)}, tmp_path / "bad.safetensors", {"klass": "os.system", "args": "[]", "kwargs": "{}"})
    (tmp_path / "bad.yaml").write_text("models: [bad]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"os\.system"):
        load_bag("bad", tmp_path)


def test_a_plan_ends_after_steps_or_after_minutes_but_not_both() -> None:
    """The learning rate follows whichever was given."""
    for wrong in ({}, {"steps": 1, "minutes": 1.0}):
        with pytest.raises(ValueError, match="either steps or minutes"):
            Plan(out=Path("x"), **wrong)  # type: ignore[arg-type]
    assert Plan(out=Path("x"), steps=10).progress(5, 0.0) == 0.5
    assert Plan(out=Path("x"), minutes=2.0).progress(0, 30.0) == 0.25


def test_the_learning_rate_rises_and_then_falls() -> None:
    """Warm-up, then a cosine that ends at a hundredth."""
    plan = Plan(out=Path("x"), steps=1000, learning_rate=1.0)
    rates = [plan.rate(step / 1000) for step in range(1001)]
    peak = int(np.argmax(rates))
    assert peak == 20
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_a_perfect_estimate_has_the_lowest_loss() -> None:
    """Worse estimates cost more, and a silent stem does not break the arithmetic."""
    stems = torch.randn(2, 4, 2, 2000, generator=torch.Generator().manual_seed(0))
    stems[:, 3] = 0.0
    losses = [separation_loss(stems + noise * torch.ones_like(stems), stems).item() for noise in (0.0, 0.1, 1.0)]
    assert losses == sorted(losses)
    assert np.isfinite(losses).all()


def test_batches_are_repeatable_and_differ_from_item_to_item() -> None:
    """The seed of the pool decides everything in it."""
    one, two = (Pool(2, 5, (6.0, 7.0)).batch(2, 4410, Mixing()) for _ in range(2))
    assert one.shape == (2, 4, 2, 4410)
    assert torch.equal(one, two)
    assert not torch.equal(one[0], one[1])


def test_evaluation_never_sees_a_training_seed() -> None:
    """The seeds of the two sets cannot meet."""
    assert max(piece.seed for piece in unseen()) < TRAINING_SEEDS
    assert len(unseen()) == 20


def test_si_sdr_ignores_the_scale_and_measures_the_noise() -> None:
    """Noise of a tenth of the amplitude is 20 dB down, however loud the estimate."""
    chance = np.random.default_rng(0)
    reference, noise = chance.standard_normal((2, 2, 50_000)).astype(np.float32)
    assert si_sdr(reference + 0.1 * noise, reference) == pytest.approx(20.0, abs=0.2)
    assert si_sdr(3.0 * reference + 0.3 * noise, reference) == pytest.approx(20.0, abs=0.2)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_shares_of_the_residual_add_up(rule: str) -> None:
    """Whatever the rule, the repaired stems sum to the mixture."""
    estimates = np.random.default_rng(1).standard_normal((4, 2, 9000)).astype(np.float32)
    shares = np.broadcast_to(RULES[rule](estimates), estimates.shape)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, atol=1e-5)


def test_the_packaged_weights_are_small_and_load_offline() -> None:
    """One safetensors file of at most 4 MB, at most two million parameters."""
    files = list(FOLDER.glob("*.safetensors"))
    bag = load_htdemucs_mini()
    assert len(files) == 1
    assert files[0].stat().st_size <= MAX_BYTES
    assert parameters(bag.models[0]) <= 2_000_000
    assert parameters(bag.models[0]) == parameters(build())
    assert tuple(bag.sources) == STEMS
    assert bag.samplerate == SAMPLE_RATE
    assert not list(FOLDER.glob("*.th"))


def test_the_packaged_weights_separate_unseen_sketches() -> None:
    """The mean improvement on three sketches; docs/htdemucs_mini.md has the table of all twenty."""
    pieces = [compose(prompt, 500 + seed, 6.0, SAMPLE_RATE) for seed, prompt in enumerate(("", "slow jazz", "happy"))]
    scores = evaluate(load_htdemucs_mini(), pieces)
    gains = improvement_db(scores)
    assert gains.mean() >= 15.0, table(scores)
    assert gains.min() >= 10.0, table(scores)
