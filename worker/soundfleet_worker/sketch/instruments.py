"""Bass and chord instruments: a note of a given pitch as samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .score import Keys

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Timbre:
    """A sound made of harmonics that fade the faster the higher they are."""

    partials: tuple[float, ...]
    """Amplitude of each harmonic at full brightness."""
    fade_sec: float
    """Time in which the fundamental falls to 1/e; harmonic k takes 1/k of it."""
    attack_sec: float
    release_sec: float
    detune_cents: float
    """Left and right differ by twice this much."""


BASS = Timbre((1.0, 0.42, 0.18, 0.06), 2.2, 0.008, 0.05, 0.0)
KEYS: dict[Keys, Timbre] = {
    "epiano": Timbre((1.0, 0.34, 0.12, 0.05), 1.9, 0.006, 0.10, 3.0),
    "pad": Timbre((1.0, 0.45, 0.22, 0.09, 0.04), 12.0, 0.14, 0.22, 6.0),
    "guitar": Timbre((1.0, 0.50, 0.26, 0.12, 0.05), 1.1, 0.004, 0.08, 2.0),
}


def frequency(pitch: float) -> float:
    """Return the frequency in Hz of a MIDI pitch."""
    return 440.0 * math.exp2((pitch - 69.0) / 12.0)


def decay(samples: int, tau_sec: float, sample_rate: int) -> Samples:
    """Return (samples,) of exp(-t / tau)."""
    t = np.arange(samples, dtype=np.float32)
    out: Samples = np.exp(t * np.float32(-1.0 / (tau_sec * sample_rate)))
    return out


def ring(timbre: Timbre, hertz: float, samples: int, sample_rate: int, brightness: float) -> Samples:
    """Return (samples,) of an undamped note: its attack and natural decay, no release."""
    turns = np.arange(samples, dtype=np.float64) * (hertz / sample_rate)
    angle = ((turns - np.floor(turns)) * (2.0 * math.pi)).astype(np.float32)
    sine = np.sin(angle)
    twice_cosine = np.cos(angle) * np.float32(2.0)
    fade = decay(samples, timbre.fade_sec, sample_rate)
    tone = 0.4 + 1.2 * brightness
    envelope = fade.copy()
    out = sine * envelope
    before, now = np.zeros_like(sine), sine
    for index, partial in enumerate(timbre.partials[1:], start=2):
        before, now = now, twice_cosine * now - before
        if hertz * index > 0.45 * sample_rate:
            break
        envelope *= fade
        out += now * envelope * np.float32(partial * tone ** (0.5 * index))
    attack = min(samples, round(timbre.attack_sec * sample_rate))
    out[:attack] *= ramp(attack)
    return out


def ramp(samples: int) -> Samples:
    """Return (samples,) rising smoothly from 0 to 1."""
    x = (np.arange(samples, dtype=np.float32) + np.float32(0.5)) / np.float32(max(samples, 1))
    out: Samples = x * x * (3.0 - 2.0 * x)
    return out


class Sampler:
    """Plays notes of one timbre; each pitch is synthesized once and then reused."""

    def __init__(self, timbre: Timbre, sample_rate: int, brightness: float, channels: int) -> None:
        self.timbre = timbre
        self.sample_rate = sample_rate
        self.brightness = brightness
        self.channels = channels
        self._rung: dict[int, Samples] = {}
        self._release = ramp(round(timbre.release_sec * sample_rate))[::-1].copy()

    def play(self, pitch: int, length_sec: float) -> Samples:
        """Return (channels, n) of a note held for `length_sec` and released."""
        held = round(length_sec * self.sample_rate)
        samples = held + len(self._release)
        rung = self._rung.get(pitch)
        if rung is None or rung.shape[1] < samples:
            rung = self._rung[pitch] = self._ring(pitch, samples)
        note = rung[:, :samples].copy()
        note[:, held:] *= self._release
        return note

    def _ring(self, pitch: int, samples: int) -> Samples:
        sides = (-1.0, 1.0)[: self.channels] if self.channels > 1 else (0.0,)
        cents = self.timbre.detune_cents
        return np.stack(
            [
                ring(self.timbre, frequency(pitch + side * cents / 100.0), samples, self.sample_rate, self.brightness)
                for side in sides
            ]
        )
