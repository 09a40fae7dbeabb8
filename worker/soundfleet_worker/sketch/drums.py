"""The drum kit: a few takes of each drum, made once per piece from noise and falling sines."""

from __future__ import annotations

import math

import numpy as np

from .instruments import Samples, decay, ramp
from .players import TAKES
from .score import Drum

PANS: dict[Drum, float] = {"kick": 0.0, "snare": 0.0, "rim": -0.15, "hat": 0.3, "open": 0.3}
LEVELS: dict[Drum, float] = {"kick": 0.8, "snare": 0.95, "rim": 0.75, "hat": 0.36, "open": 0.3}


class Kit:
    """Takes of every drum, (2, n) each, panned and levelled."""

    def __init__(self, seed: int, sample_rate: int, brightness: float) -> None:
        self.sample_rate = sample_rate
        self.brightness = brightness
        self._seed = seed
        self._takes: dict[tuple[Drum, int], Samples] = {}

    def take(self, drum: Drum, index: int) -> Samples:
        """Return (2, n) of one take of a drum."""
        key = (drum, index % TAKES)
        if key not in self._takes:
            mono = self._record(drum, index % TAKES)
            angle = (PANS[drum] + 1.0) * math.pi / 4.0
            sides = np.array([[math.cos(angle)], [math.sin(angle)]], dtype=np.float32) * math.sqrt(2.0)
            self._takes[key] = np.asarray(sides * mono[None] * LEVELS[drum], dtype=np.float32)
        return self._takes[key]

    def _record(self, drum: Drum, index: int) -> Samples:
        order = ("kick", "snare", "rim", "hat", "open").index(drum)
        chance = np.random.Generator(np.random.PCG64([self._seed, order, index]))
        match drum:
            case "kick":
                return self._kick(chance)
            case "snare":
                return self._snare(chance)
            case "rim":
                return self._rim(chance)
            case "hat":
                return self._hat(chance, 0.035)
            case "open":
                return self._hat(chance, 0.14)

    def _time(self, seconds: float) -> Samples:
        t: Samples = np.arange(round(seconds * self.sample_rate), dtype=np.float32) / np.float32(self.sample_rate)
        return t

    def _noise(self, chance: np.random.Generator, samples: int, low_hz: float, high_hz: float) -> Samples:
        """Return (samples,) of noise between two frequencies, with unit level."""
        spectrum = np.fft.rfft(chance.standard_normal(samples))
        hertz = np.fft.rfftfreq(samples, 1.0 / self.sample_rate)
        high_hz = min(high_hz, 0.48 * self.sample_rate)
        spectrum *= (hertz / low_hz) ** 2 / (1.0 + (hertz / low_hz) ** 2) / (1.0 + (hertz / high_hz) ** 4)
        noise = np.fft.irfft(spectrum, samples)
        return np.asarray(noise / np.sqrt(np.mean(noise**2)), dtype=np.float32)

    def _kick(self, chance: np.random.Generator) -> Samples:
        t = self._time(0.34)
        deep = 49.0 + 3.0 * chance.random()
        drop = 0.028
        turns = deep * t + 95.0 * drop * (1.0 - np.exp(-t / drop))
        body = np.sin(turns * (2.0 * math.pi)) * decay(len(t), 0.11, self.sample_rate)
        click = self._noise(chance, len(t), 1200.0, 5000.0) * decay(len(t), 0.006, self.sample_rate)
        return self._shape(np.tanh(1.8 * body) + 0.28 * click, 0.05)

    def _snare(self, chance: np.random.Generator) -> Samples:
        t = self._time(0.26)
        tone = np.sin(t * (2.0 * math.pi * (186.0 + 6.0 * chance.random()))) * decay(len(t), 0.045, self.sample_rate)
        wires = self._noise(chance, len(t), 900.0, 5000.0 + 6000.0 * self.brightness)
        return self._shape(np.tanh(0.7 * tone + 0.55 * wires * decay(len(t), 0.075, self.sample_rate)), 0.05)

    def _rim(self, chance: np.random.Generator) -> Samples:
        t = self._time(0.12)
        wood = np.sin(t * (2.0 * math.pi * 1680.0)) * decay(len(t), 0.012, self.sample_rate)
        air = self._noise(chance, len(t), 1500.0, 6000.0) * decay(len(t), 0.03, self.sample_rate)
        return self._shape(np.tanh(0.9 * wood + 0.8 * air), 0.02)

    def _hat(self, chance: np.random.Generator, fade_sec: float) -> Samples:
        samples = round((0.03 + 4.0 * fade_sec) * self.sample_rate)
        noise = self._noise(chance, samples, 6500.0, 9000.0 + 7000.0 * self.brightness)
        return self._shape(noise * decay(samples, fade_sec, self.sample_rate), 0.02)

    def _shape(self, drum: Samples, tail_sec: float) -> Samples:
        """Return the drum with its end faded to nothing."""
        tail = round(tail_sec * self.sample_rate)
        drum[-tail:] *= ramp(tail)[::-1]
        return drum.astype(np.float32, copy=False)
