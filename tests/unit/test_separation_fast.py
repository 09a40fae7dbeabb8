"""The network that is written out for inference says what Demucs' own module says."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from demucs.hdemucs import HDemucs  # noqa: E402
from demucs.htdemucs import HTDemucs  # noqa: E402

from soundfleet_schemas import STEMS, Precision  # noqa: E402
from soundfleet_worker.separation import fast_ops, precision  # noqa: E402
from soundfleet_worker.separation.fast_htdemucs import FastHTDemucs, is_known  # noqa: E402
from soundfleet_worker.separation.network import Network  # noqa: E402
from soundfleet_worker.weights import load_htdemucs_mini  # noqa: E402

RATE = 8_000
CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "channels": 16,
    "nfft": 1024,
    "depth": 3,
    "bottom_channels": 32,
    "t_layers": 3,
    "t_heads": 2,
    "dconv_init": 0.3,  # what training comes to: at the initial value these branches would be lost in the rounding
}


pytestmark = pytest.mark.usefixtures("one_thread")


def network(**shape: Any) -> Any:
    """A small HTDemucs whose every weight is random, those that begin as ones and zeros too."""
    torch.manual_seed(3)
    model = HTDemucs(list(STEMS), samplerate=RATE, segment=1, **SMALL | shape).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith(("scale", "bias", ".1.weight", ".4.weight")):
                weight.add_(0.2 * torch.randn_like(weight))
    return model


def windows(count: int = 1, samples: int = RATE) -> Any:
    return torch.randn((count, 2, samples), generator=torch.Generator().manual_seed(1))


def snr_db(ours: Any, theirs: Any) -> float:
    return float(10 * torch.log10(theirs.square().sum() / (ours - theirs).square().sum()))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"dconv_mode": 3},
        {"nfft": 512},  # frames that do not come out even where a few are worked on together
        {"dconv_mode": 0, "bottom_channels": 0},
        {"t_layers": 2, "t_cross_first": True, "t_layer_scale": False, "t_norm_out": False},
        {"context_enc": 1, "context": 0, "freq_emb": 0},
    ],
)
def test_it_equals_the_module(shape: dict[str, Any], fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-5 of the loudest sample in float32, with oneDNN's fused products and without."""
    monkeypatch.setattr(fast_ops, "FUSED", fast_ops.FUSED and fused)
    model = network(**shape)
    assert is_known(model)
    mix = windows(2)
    with torch.inference_mode():
        ours, theirs = FastHTDemucs(model, torch.float32)(mix), model(mix)
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


@pytest.mark.parametrize("samples", [RATE, RATE - 1, 700, 1])
@pytest.mark.parametrize("level", [1.0, 1e-4, 0.0])
def test_short_quiet_and_silent_windows_are_the_same_too(samples: int, level: float) -> None:
    """Nothing is divided by zero; silence is what the module makes of it."""
    model, mix = network(), level * windows(1, samples)
    with torch.inference_mode():
        ours, theirs = FastHTDemucs(model, torch.float32)(mix), model(mix)
    assert torch.isfinite(ours).all()
    assert float((ours - theirs).abs().max()) <= 1e-4 * max(float(theirs.abs().max()), 1e-4)


def test_a_window_does_not_hear_its_neighbours() -> None:
    """What stands in one slot of a launch changes nothing in another, bit for bit."""
    fast, mix = FastHTDemucs(network(), torch.float32), windows(3)
    other = mix.clone()
    other[1:] = 0.1
    with torch.inference_mode():
        assert torch.equal(fast(mix)[0], fast(other)[0])


@pytest.mark.skipif(not precision.has_bfloat16(CPU), reason="needs a CPU with bfloat16")
def test_bfloat16_is_forty_db_below_the_signal() -> None:
    """With the weights of the package, on noise, which is harder than music."""
    model, mix = load_htdemucs_mini().models[0], windows(1, 3 * 44_100)
    with torch.inference_mode():
        assert snr_db(FastHTDemucs(model, torch.bfloat16)(mix), model(mix)) > 40


@pytest.mark.parametrize("shape", [{"norm_starts": 1}, {"t_group_norm": 1}, {"t_gelu": False}, {"t_layers": 0}])
def test_an_unusual_shape_is_left_to_the_module(shape: dict[str, Any]) -> None:
    """It is separated all the same, by Demucs' own code."""
    model, mix = network(**shape), windows()
    assert not is_known(model)
    with torch.inference_mode():
        assert torch.equal(Network(model, CPU, Precision.Float32)(mix), model(mix))


def test_auto_is_bfloat16_only_where_it_is_native_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTDemucs on a CPU that has it; the older classes and other CPUs stay at float32."""
    model, older = network(), HDemucs(list(STEMS), channels=8, samplerate=RATE, segment=1)
    monkeypatch.setattr("soundfleet_worker.backends.precision._cpu_has", lambda _floats: True)
    assert precision.choose(Precision.Auto, CPU, [model]) is Precision.BFloat16
    assert precision.choose(Precision.Auto, CPU, [model, older]) is Precision.Float32
    assert precision.choose(Precision.BFloat16, CPU, [older]) is Precision.BFloat16
    monkeypatch.setattr("soundfleet_worker.backends.precision._cpu_has", lambda _floats: False)
    assert precision.choose(Precision.Auto, CPU, [model]) is Precision.Float32
    assert precision.choose(Precision.Float32, CPU, [model]) is Precision.Float32


def test_weights_in_bfloat16_take_half() -> None:
    """The module is let go when the network is written out; where it casts, both are there."""
    model, older = network(), HDemucs(list(STEMS), channels=8, samplerate=RATE, segment=1)
    count = sum(weight.numel() for weight in model.parameters())
    assert Network(model, CPU, Precision.BFloat16).weight_bytes == 2 * count
    assert Network(model, CPU, Precision.Float32).weight_bytes == 4 * count
    assert Network(older, CPU, Precision.BFloat16).weight_bytes == 6 * sum(w.numel() for w in older.parameters())
