"""The judgement of one separation: every delivered stem by itself, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from soundfleet_schemas import QualityMetrics

from .estimate import VERSION, estimate_db
from .signs import FRAMES, signs
from .sound import Sound
from .spectra import Audio, Spectrum, excerpts, spectrum
from .truth import artifacts, measure_db

MEASURED = "si-sdr"
SILENT_DB = -60.0
"""A stem that lies so far below the mix is silent: there is nothing in it to judge."""
FIELDS = {"vocals": "vocal_isolation", "drums": "drum_separation", "bass": "bass_isolation"}


class Scored(NamedTuple):
    """What one stem came to."""

    score: float
    clean: float
    """The share of its energy that is no artifact."""
    si_sdr_db: float | None = None
    """Measured; None of an estimate."""


def score_of(si_sdr_db: float) -> float:
    """Return the share of a stem's energy that is the true stem: 0.5 at 0 dB, 0.75 at 4.8 dB, 0.91 at 10 dB."""
    return 1 / (1 + 10 ** (-si_sdr_db / 10))


def assess(
    stems: Mapping[str, Audio],
    mix: Audio,
    references: Mapping[str, Audio],
    *,
    sample_rate: int,
    gain: float = 1.0,
    rest: str | None = None,
    of: str = "",
) -> QualityMetrics | None:
    """Judge delivered stems, (2, n) each, of a mix; None when there is nothing to judge.

    ``references`` are true stems by name. ``gain`` is what the delivered stems were scaled by. ``rest`` names the
    delivered file that holds all of the mix but the stem ``of``.
    """
    samples = mix.shape[1]
    bench = _Bench(mix, sample_rate)
    true = {stem: Sound(audio, samples) for stem, audio in references.items()}
    if rest is not None and of in references:
        true[rest] = Sound(references[of], samples, mix=mix)
    scored = {name: bench.judge(Sound(audio, samples, gain), true.get(name)) for name, audio in stems.items()}
    apart = dict(scored)
    if rest is not None and of not in stems:  # karaoke: taking the vocals out is what was done
        apart[of] = bench.judge(Sound(stems[rest], samples, gain, mix), true.get(of))
    return _metrics(_found(scored), _found(apart))


def _found(scored: Mapping[str, Scored | None]) -> dict[str, Scored]:
    return {stem: one for stem, one in scored.items() if one is not None}


def _metrics(scored: Mapping[str, Scored], apart: Mapping[str, Scored]) -> QualityMetrics | None:
    if not scored:
        return None
    fields = {field: round(apart[stem].score, 4) for stem, field in FIELDS.items() if stem in apart}
    measured = {stem: round(one.si_sdr_db, 2) for stem, one in scored.items() if one.si_sdr_db is not None}
    return QualityMetrics(
        overall_score=round(math.fsum(one.score for one in scored.values()) / len(scored), 4),
        artifact_reduction=round(math.fsum(one.clean for one in scored.values()) / len(scored), 4),
        method=_method(measured, scored),
        scores={stem: round(one.score, 4) for stem, one in scored.items()},
        si_sdr_db=measured,
        **fields,
    )


def _method(measured: Mapping[str, float], scored: Mapping[str, Scored]) -> str:
    if not measured:
        return VERSION
    return MEASURED if len(measured) == len(scored) else f"{MEASURED} of {', '.join(measured)}, else {VERSION}"


class _Bench:
    """The excerpts of one mix, and how stems look beside it."""

    def __init__(self, mix: Audio, sample_rate: int) -> None:
        self._rate = sample_rate
        self._parts = excerpts(mix.shape[1], sample_rate, mix.shape[0])
        self._mixed = spectrum(mix, self._parts, sample_rate)
        self._audible = _energy(self._mixed) * 10 ** (SILENT_DB / 10)

    def judge(self, sound: Sound, true: Sound | None) -> Scored | None:
        """Judge one sound; None when it is silent, or too short for an estimate."""
        own = spectrum(sound, self._parts, self._rate)
        if _energy(own) <= self._audible:
            return None
        if true is None:
            return self._estimate(own)
        si_sdr_db = measure_db(sound, true)
        reference = spectrum(true, self._parts, self._rate)
        return Scored(score_of(si_sdr_db), 1 - artifacts(own, reference, self._mixed - reference), si_sdr_db)

    def _estimate(self, own: Spectrum) -> Scored | None:
        if own.shape[0] < FRAMES:
            return None
        seen = signs(own, self._mixed - own)
        if not np.isfinite(seen).all():
            return None
        si_sdr_db, artifact_db = estimate_db(seen)
        return Scored(score_of(si_sdr_db), score_of(artifact_db))


def _energy(spectrum: Spectrum) -> float:
    return float(np.square(spectrum.real, dtype=np.float64).sum() + np.square(spectrum.imag, dtype=np.float64).sum())
