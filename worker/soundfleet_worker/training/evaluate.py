"""How well a bag separates sketches that it never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from demucs.apply import apply_model
from numpy.typing import NDArray

from ..sketch import STEMS, Piece, compose, mixture, render
from .architecture import SAMPLE_RATE

if TYPE_CHECKING:
    from demucs.apply import BagOfModels

Audio = NDArray[np.float32]
Rule = Callable[[Audio], Audio]
"""From estimates (4, 2, n) to each one's share of the residual, broadcastable to (4, 2, n), summing to 1."""

PROMPTS = (
    "",
    "slow rainy night",
    "happy sunny guitar",
    "jazzy coffee shop",
    "study beats 80 bpm",
    "dreamy pad",
    "fast upbeat",
    "sad piano in a minor",
    "dusty vinyl",
    "minimal ambient sleep",
)
WINDOW_SEC = 0.05


@dataclass(frozen=True, slots=True)
class Score:
    """One separated sketch; every array has one value in dB per stem."""

    mixture: Audio
    """SI-SDR of the untouched mixture."""
    estimate: Audio
    repaired: dict[str, Audio]
    """SI-SDR once the residual is given back to the stems, by rule."""
    sum_snr_db: float
    """How well the bare estimates add up to the mixture."""


def unseen(count: int = 20) -> list[Piece]:
    """Return the sketches of the evaluation, 10 to 45 s long; their seeds are never trained on."""
    return [compose(PROMPTS[seed % len(PROMPTS)], seed, 10.0 + (seed * 7) % 36, SAMPLE_RATE) for seed in range(count)]


def si_sdr(estimate: Audio, reference: Audio) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB of two arrays of the same shape."""
    e, r = estimate.ravel().astype(np.float64), reference.ravel().astype(np.float64)
    target = r * (e @ r / max(float(r @ r), 1e-12))
    error = e - target
    return float(10.0 * np.log10(max(float(target @ target), 1e-12) / max(float(error @ error), 1e-12)))


def equal_shares(estimates: Audio) -> Audio:
    """Give each stem the same share."""
    return np.full((len(estimates), 1, 1), 1.0 / len(estimates), dtype=np.float32)


def energy_shares(estimates: Audio) -> Audio:
    """Give each stem a share in proportion to its energy over the whole piece."""
    energy = np.square(estimates).mean(axis=(1, 2), keepdims=True) + 1e-12
    return np.asarray(energy / energy.sum(axis=0), dtype=np.float32)


def local_shares(estimates: Audio) -> Audio:
    """Give each stem a share in proportion to its energy around each sample."""
    reach = round(WINDOW_SEC * SAMPLE_RATE / 2)
    power = np.pad(np.square(estimates).sum(axis=1), ((0, 0), (reach + 1, reach)))
    summed = np.cumsum(power, axis=1, dtype=np.float64)
    energy = summed[:, 2 * reach + 1 :] - summed[:, : -2 * reach - 1] + 1e-9
    return np.asarray((energy / energy.sum(axis=0))[:, None], dtype=np.float32)


RULES: dict[str, Rule] = {"equal": equal_shares, "energy": energy_shares, "local": local_shares}


def separate(bag: BagOfModels, mix: Audio) -> Audio:
    """Return estimates (4, 2, n) of a mixture (2, n) by Demucs' own overlap-add, without shifts."""
    with torch.inference_mode():
        out = apply_model(bag, torch.from_numpy(mix)[None], shifts=0, overlap=0.25)[0]
    return np.asarray(out.numpy(), dtype=np.float32)


def judge(bag: BagOfModels, piece: Piece) -> Score:
    """Separate one sketch and compare with its true stems."""
    stems = render(piece)
    mix = mixture(stems)
    estimates = separate(bag, mix)
    residual = mix - estimates.sum(axis=0)

    def scores(candidates: Iterable[Audio]) -> Audio:
        pairs = zip(candidates, STEMS, strict=True)
        return np.array([si_sdr(audio, stems[stem]) for audio, stem in pairs], dtype=np.float32)

    return Score(
        mixture=scores([mix] * len(STEMS)),
        estimate=scores(estimates),
        repaired={name: scores(estimates + rule(estimates) * residual) for name, rule in RULES.items()},
        sum_snr_db=float(10 * np.log10(np.mean(mix**2) / max(float(np.mean(residual**2)), 1e-12))),
    )


def evaluate(bag: BagOfModels, pieces: list[Piece] | None = None) -> list[Score]:
    """Judge the bag on unseen sketches."""
    return [judge(bag, piece) for piece in (unseen() if pieces is None else pieces)]


def improvement_db(scores: list[Score]) -> Audio:
    """Return each stem's mean SI-SDR improvement over the mixture, (4,)."""
    return np.asarray(np.mean([score.estimate - score.mixture for score in scores], axis=0), dtype=np.float32)


def table(scores: list[Score]) -> str:
    """Return the evaluation as a Markdown table with a line on the sum of the stems below it."""
    rules = list(RULES)
    columns = ["stem", "mixture", "estimate", "improvement", "worst", *(f"+ residual, {rule}" for rule in rules)]
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    before = np.stack([score.mixture for score in scores])
    after = np.stack([score.estimate for score in scores])
    repaired = [np.stack([score.repaired[rule] for score in scores]) for rule in rules]
    for index, stem in enumerate((*STEMS, "mean")):
        pick = slice(index, index + 1) if index < len(STEMS) else slice(None)
        gain = (after - before)[:, pick]
        cells = [before[:, pick].mean(), after[:, pick].mean(), gain.mean(), gain.mean(axis=1).min()]
        cells += [fixed[:, pick].mean() for fixed in repaired]
        lines.append(f"| {stem} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    snr = [score.sum_snr_db for score in scores]
    lines += ["", f"{len(scores)} sketches; SI-SDR in dB. The bare estimates add up to the mixture with a"]
    lines += [f"signal-to-noise ratio of {fmean(snr):.1f} dB on average ({min(snr):.1f} dB at worst)."]
    return "\n".join(lines)
