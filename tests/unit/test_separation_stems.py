"""The sum rule and the loudness rule, on arrays."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numpy", reason="needs the worker extra")
from soundfleet_worker.separation import stems as rule


def noise(seed: int, level: float = 0.1, samples: int = 3 * rule.BLOCK // 2) -> rule.Audio:
    return (level * np.random.default_rng(seed).standard_normal((2, samples))).astype(np.float32)


@pytest.mark.parametrize("levels", [(0.1, 0.1, 0.1, 0.1), (0.5, 0.01, 0.2, 1e-6), (0, 0, 0, 0)])
def test_stems_add_up_to_the_mix(levels: tuple[float, ...]) -> None:
    """To float32's rounding: more than 100 dB, whatever the estimates were."""
    stems = {str(index): noise(index, level) for index, level in enumerate(levels)}
    mix = noise(9)
    rule.share_residual(stems, mix)
    error = sum(stems.values()) - mix
    assert np.square(error).sum() < 1e-10 * np.square(mix).sum()


def test_a_silent_stem_stays_silent() -> None:
    """It gets no share of what the others leave."""
    stems = {"drums": noise(0), "vocals": np.zeros_like(noise(0))}
    rule.share_residual(stems, noise(1))
    assert not stems["vocals"].any()


def test_estimates_that_add_up_are_not_touched() -> None:
    """There is no residual to share."""
    stems = {"drums": noise(0), "bass": noise(1)}
    before = {name: stem.copy() for name, stem in stems.items()}
    rule.share_residual(stems, before["drums"] + before["bass"])
    for name, stem in stems.items():
        np.testing.assert_allclose(stem, before[name], atol=1e-7)


def test_the_instrumental_is_the_mix_without_the_vocals() -> None:
    """Made in the vocals' place."""
    mix, vocals = noise(0), noise(1)
    want = mix - vocals
    assert np.array_equal(rule.take_instrumental({"vocals": vocals}, mix)["instrumental"], want)


def test_the_loudest_peak_comes_to_minus_one_dbfs() -> None:
    """By one gain; silence is left alone."""
    stems = {"drums": noise(0, 0.3), "bass": noise(1, 0.01)}
    ratio = np.abs(stems["drums"]).max() / np.abs(stems["bass"]).max()
    gain = rule.normalise(stems)
    assert np.abs(stems["drums"]).max() == pytest.approx(10 ** (-1 / 20), rel=1e-6)
    assert np.abs(stems["drums"]).max() / np.abs(stems["bass"]).max() == pytest.approx(ratio, rel=1e-5)
    assert gain > 0
    assert rule.normalise({"drums": np.zeros((2, 10), dtype=np.float32)}) == 1.0
