"""The voice: harmonics under vowel formants, with portamento, vibrato and a breath's envelope."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .instruments import Samples, frequency, ramp
from .score import Phrase, Vowel

TABLE = 2048
"""Samples of one period in a wavetable."""
CONTROL = 64
"""Audio samples per control point of the pitch."""
GLIDE_SEC = 0.07
RELEASE_SEC = 0.14
VIBRATO_HZ = 5.4
VIBRATO_SEMITONES = 0.28

FORMANTS: dict[Vowel, tuple[tuple[float, float, float], ...]] = {
    "a": ((820, 150, 1.0), (1250, 180, 0.75), (2900, 320, 0.45)),
    "o": ((520, 120, 1.0), (900, 150, 0.6), (2850, 300, 0.30)),
    "e": ((520, 120, 1.0), (1900, 220, 0.65), (2750, 300, 0.5)),
    "i": ((420, 110, 1.0), (2250, 240, 0.6), (3050, 320, 0.5)),
    "u": ((430, 110, 1.0), (820, 150, 0.45), (2700, 300, 0.28)),
}
"""Centre in Hz, half width in Hz and gain of each formant."""


class Voice:
    """Sings phrases; the wavetable of each (vowel, pitch) is made once."""

    def __init__(self, sample_rate: int, brightness: float) -> None:
        self.sample_rate = sample_rate
        self.brightness = brightness
        self._tables: dict[tuple[Vowel, int], Samples] = {}

    def sing(self, phrase: Phrase) -> Samples:
        """Return (n,) of one phrase, from its start to the end of its last release."""
        last = phrase.syllables[-1]
        samples = round((last.start_sec + last.length_sec + RELEASE_SEC) * self.sample_rate) + 1
        turns = self._turns(phrase, samples)
        out = np.zeros(samples, dtype=np.float32)
        for index, syllable in enumerate(phrase.syllables):
            start = round(syllable.start_sec * self.sample_rate)
            end = min(samples, start + round((syllable.length_sec + RELEASE_SEC) * self.sample_rate))
            table = self._table(syllable.vowel, syllable.pitch)
            sung = _read(table, turns[start:end])
            sung *= self._envelope(len(sung), legato=index > 0) * np.float32(syllable.velocity)
            out[start:end] += sung
        return out

    def _turns(self, phrase: Phrase, samples: int) -> NDArray[np.float64]:
        """Return (samples,) of phase in turns, following the melody with glides and vibrato."""
        t = np.arange(0, samples + CONTROL, CONTROL) / self.sample_rate
        pitch = np.full(len(t), float(phrase.syllables[0].pitch))
        tremor = np.zeros(len(t))
        for before, syllable in zip(phrase.syllables, phrase.syllables[1:], strict=False):
            slide = np.clip((t - syllable.start_sec) / GLIDE_SEC, 0.0, 1.0)
            pitch += (syllable.pitch - before.pitch) * slide * slide * (3.0 - 2.0 * slide)
        for syllable in phrase.syllables:
            since = t - syllable.start_sec
            deep = np.clip((since - 0.12) / 0.3, 0.0, 1.0)
            tremor = np.where(since >= 0.0, deep, tremor)
        pitch += VIBRATO_SEMITONES * tremor * np.sin(2.0 * math.pi * VIBRATO_HZ * t)
        hertz = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
        turns = np.concatenate(([0.0], np.cumsum(0.5 * (hertz[1:] + hertz[:-1]) * CONTROL / self.sample_rate)))
        return np.interp(np.arange(samples), np.arange(len(t)) * CONTROL, turns)

    def _envelope(self, samples: int, *, legato: bool) -> Samples:
        """Return (samples,) of loudness: a soft start, a slow fall, a release that overlaps the next note."""
        envelope = np.linspace(1.0, 0.82, samples, dtype=np.float32)
        attack = min(samples // 2, round((0.09 if legato else 0.05) * self.sample_rate))
        release = min(samples // 2, round(RELEASE_SEC * self.sample_rate))
        envelope[:attack] *= ramp(attack)
        envelope[samples - release :] *= ramp(release)[::-1]
        return envelope

    def _table(self, vowel: Vowel, pitch: int) -> Samples:
        """Return one period of a vowel at a pitch, (TABLE + 1,), at unit level."""
        key = (vowel, pitch)
        if key not in self._tables:
            hertz = frequency(pitch)
            spectrum = np.zeros(TABLE // 2 + 1, dtype=np.complex128)
            for harmonic in range(1, 24):
                at = hertz * harmonic
                if at > min(7000.0, 0.45 * self.sample_rate):
                    break
                shaped = sum(gain / (1.0 + ((at - centre) / half) ** 2) for centre, half, gain in FORMANTS[vowel])
                tilt = harmonic ** (-0.6 + 0.5 * (self.brightness - 0.5))
                spectrum[harmonic] = -1j * (0.12 + shaped) * tilt * np.exp(1j * 0.7 * harmonic * harmonic)
            wave = np.fft.irfft(spectrum, TABLE)
            wave /= np.sqrt(np.mean(wave**2))
            self._tables[key] = np.append(wave, wave[0]).astype(np.float32)
        return self._tables[key]


def _read(table: Samples, turns: NDArray[np.float64]) -> Samples:
    """Return the wavetable read at each phase, with linear interpolation."""
    at = (turns - np.floor(turns)) * TABLE
    index = at.astype(np.int32)
    part = (at - index).astype(np.float32)
    low = table[index]
    return low + part * (table[index + 1] - low)
