"""The sum rule and the loudness rule, on arrays."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from soundfleet_worker.separation import stems as rule  # noqa: E402


def noise(seed: int, level: float = 0.1, samples: int = 3 * rule.BLOCK // 2) -> Any:
    return level * torch.randn((2, samples), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("levels", [(0.1, 0.1, 0.1, 0.1), (0.5, 0.01, 0.2, 1e-6), (0, 0, 0, 0)])
def test_stems_add_up_to_the_mix(levels: tuple[float, ...]) -> None:
    """To float32's rounding: more than 100 dB, whatever the estimates were."""
    stems = {str(index): noise(index, level) for index, level in enumerate(levels)}
    mix = noise(9)
    rule.share_residual(stems, mix)
    error = sum(stems.values()) - mix
    assert error.square().sum() < 1e-10 * mix.square().sum()


def test_a_silent_stem_stays_silent() -> None:
    """It gets no share of what the others leave."""
    stems = {"drums": noise(0), "vocals": torch.zeros_like(noise(0))}
    rule.share_residual(stems, noise(1))
    assert not stems["vocals"].any()


def test_estimates_that_add_up_are_not_touched() -> None:
    """There is no residual to share."""
    stems = {"drums": noise(0), "bass": noise(1)}
    before = {name: stem.clone() for name, stem in stems.items()}
    rule.share_residual(stems, before["drums"] + before["bass"])
    for name, stem in stems.items():
        torch.testing.assert_close(stem, before[name], atol=1e-7, rtol=0)


def test_the_rest_is_the_mix_without_the_stem() -> None:
    """Both stay: a caller may want the pair."""
    mix, vocals = noise(0), noise(1)
    before = vocals.clone()
    assert torch.equal(rule.take_rest(vocals, mix, torch.zeros_like(mix)), mix - before)
    assert torch.equal(vocals, before)


def test_the_loudest_peak_comes_to_minus_one_dbfs() -> None:
    """By one gain, whether the peak is above or below zero; silence is left alone."""
    stems = {"drums": noise(0, 0.3).clamp_(max=0.1), "bass": noise(1, 0.01)}
    ratio = float(stems["drums"].abs().max() / stems["bass"].abs().max())
    gain = rule.normalise(stems)
    assert float(stems["drums"].abs().max()) == pytest.approx(10 ** (-1 / 20), rel=1e-6)
    assert float(stems["drums"].abs().max() / stems["bass"].abs().max()) == pytest.approx(ratio, rel=1e-5)
    assert gain > 0
    assert rule.normalise({"drums": torch.zeros((2, 10))}) == 1.0


@pytest.mark.parametrize("level", [1e-40, 1e-11])
def test_what_lies_below_minus_200_dbfs_is_not_raised(level: float) -> None:
    """It is rounding, and of the quietest numbers there are the gain would be infinite in float32."""
    stems = {"drums": level * noise(0), "bass": level * noise(1)}
    assert rule.normalise(stems) == 1.0
    assert all(bool(torch.isfinite(stem).all()) for stem in stems.values())
