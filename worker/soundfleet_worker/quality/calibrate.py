"""Fit the estimate to sketches whose true stems are known, and print how well it does on songs it was not fitted to.

    python -m soundfleet_worker.quality.calibrate [--songs 24] [--write]

Takes a quarter of an hour on two cores; needs torch and demucs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from soundfleet_schemas import encode

from ..audio.levels import si_sdr
from ..sketch import STEMS, compose, render
from .estimate import FILE, HIGHEST_DB, LOWEST_DB, Calibration, terms
from .signs import signs
from .spectra import Excerpt, spectrum
from .spoil import Stems, spoilt
from .truth import artifacts

RATE = 44_100
PART = slice(4 * RATE, 14 * RATE)
PIECE_SEC = 20.0
FOLDS = 6
RIDGE = 3.0
"""Keeps the weights small: the polynomial is to say little where it has seen little."""
QUIETEST_ARTIFACT = 1e-3
Matrix = NDArray[np.float64]


class Example(NamedTuple):
    """One stem of one separation of one song."""

    song: int
    way: str
    stem: str
    signs: Matrix
    si_sdr_db: float
    artifact_db: float


def songs(seeds: Iterable[int]) -> Iterator[tuple[int, Stems, Stems]]:
    """Yield (seed, true stems, htdemucs_mini's stems) of sketches that it was never trained on."""
    import torch

    from ..separation.stems import share_residual
    from ..training.evaluate import separate
    from ..training.pool import invent_prompt
    from ..weights import load_htdemucs_mini

    bag = load_htdemucs_mini()
    for seed in seeds:
        chance = Random(seed)
        stems = render(compose(invent_prompt(chance), seed, PIECE_SEC, RATE))
        gains = [10 ** (chance.uniform(-6.0, 6.0) / 20) if seed % 2 else 1.0 for _ in STEMS]
        true = np.stack([np.float32(gain) * stems[stem][:, PART] for stem, gain in zip(STEMS, gains, strict=True)])
        mix = true.sum(axis=0)
        mean, deviation = mix.mean(), mix.mean(axis=0).std() + 1e-8
        estimates = separate(bag, (mix - mean) / deviation) * deviation + mean
        share_residual(dict(zip(STEMS, torch.from_numpy(estimates), strict=True)), torch.from_numpy(mix))
        yield seed, true, estimates


def examples(seeds: Iterable[int]) -> Iterator[Example]:
    """Yield what is fitted to."""
    for seed, true, estimates in songs(seeds):
        for way, separated in spoilt(true, estimates, seed):
            part = slice(2_048, separated.shape[2] - 4_096)  # masks leave the ends half done
            cut, wanted = separated[:, :, part], true[:, :, part]
            half = cut.shape[2] // 2
            both = [Excerpt(0, slice(0, half)), Excerpt(1, slice(half, 2 * half))]
            mixed = spectrum(cut.sum(axis=0), both, RATE)
            for index, stem in enumerate(STEMS):
                own, reference = spectrum(cut[index], both, RATE), spectrum(wanted[index], both, RATE)
                lost = artifacts(own, reference, mixed - reference)
                artifact_db = -10 * np.log10(max(lost, QUIETEST_ARTIFACT))
                distance = si_sdr(wanted[index], cut[index])
                yield Example(seed, way, stem, signs(own, mixed - own), distance, float(artifact_db))
        sys.stderr.write(f"song {seed}\n")


def fit(rows: Matrix, wanted: Matrix) -> Matrix:
    """Return the weights of the terms, by ridge regression; the constant is free."""
    penalty = RIDGE * np.eye(rows.shape[1])
    penalty[-1, -1] = 0.0
    weights: Matrix = np.linalg.solve(rows.T @ rows + penalty, rows.T @ wanted).astype(np.float64)
    return weights


def predicted(rows: Matrix, wanted: Matrix, song: NDArray[np.int_]) -> Matrix:
    """Predict each song by a fit to the other songs."""
    said = np.zeros(len(wanted))
    for fold in range(FOLDS):
        out = song % FOLDS == fold
        said[out] = rows[out] @ fit(rows[~out], wanted[~out])
    return said


def rank_correlation(a: Matrix, b: Matrix) -> float:
    """Spearman's: 1 when both put everything into the same order."""
    first, second = (np.argsort(np.argsort(values)).astype(np.float64) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def report(found: list[Example], said: Matrix, wanted: Matrix) -> Iterator[str]:
    """Yield the lines of docs/quality.md's tables."""
    yield "| | stems | true SI-SDR | rank correlation | mean error |"
    yield "|---|---:|---:|---:|---:|"
    groups: list[tuple[str, Matrix]] = [("all stems", np.ones(len(found), dtype=bool))]
    groups += [(stem, np.array([example.stem == stem for example in found])) for stem in STEMS]
    ways = dict.fromkeys(example.way for example in found)
    groups += [(way, np.array([example.way == way for example in found])) for way in ways]
    for name, chosen in groups:
        error, rank = np.abs(said - wanted)[chosen].mean(), rank_correlation(said[chosen], wanted[chosen])
        yield f"| {name} | {chosen.sum()} | {wanted[chosen].mean():.1f} dB | {rank:.2f} | {error:.1f} dB |"
    keys = [(example.song, example.way) for example in found]
    rows = {key: [index for index, other in enumerate(keys) if other == key] for key in dict.fromkeys(keys)}
    a, b = (np.array([values[row].mean() for row in rows.values()]) for values in (said, wanted))
    yield f"| mean of a separation's stems | {len(a)} | {b.mean():.1f} dB | {rank_correlation(a, b):.2f} | " + (
        f"{np.abs(a - b).mean():.1f} dB |"
    )


def main() -> None:
    """Fit, report, and write the calibration when asked to."""
    parser = argparse.ArgumentParser(description="Fit the estimate of quality to sketches.")
    parser.add_argument("--songs", type=int, default=24)
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    arguments = parser.parse_args()
    found = list(examples(range(arguments.songs)))
    raw = np.stack([example.signs for example in found])
    mean, deviation = raw.mean(axis=0), raw.std(axis=0)
    rows = np.stack([terms(row, mean, deviation) for row in raw])
    song = np.array([example.song for example in found])
    wanted = np.clip(np.array([example.si_sdr_db for example in found]), LOWEST_DB, HIGHEST_DB)
    lost = np.array([example.artifact_db for example in found])
    for title, values in (("SI-SDR", wanted), ("artifacts", lost)):
        said = np.clip(predicted(rows, values, song), LOWEST_DB, 10 * np.log10(1 / QUIETEST_ARTIFACT))
        sys.stdout.write("\n".join([title, *report(found, said, values), ""]))
    if arguments.write:
        weights = {"si_sdr_db": fit(rows, wanted), "artifact_db": fit(rows, lost), "mean": mean, "deviation": deviation}
        fitted = Calibration(**{name: tuple(map(float, np.round(value, 6))) for name, value in weights.items()})
        FILE.write_bytes(encode(fitted) + b"\n")


if __name__ == "__main__":
    main()
