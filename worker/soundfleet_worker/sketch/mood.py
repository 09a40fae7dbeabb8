"""From the words of a prompt to a mood: tempo, key, density, brightness, swing, instrument."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

from .score import Keys, Mode, Mood

MIN_BPM = 50.0
MAX_BPM = 160.0


@dataclass(frozen=True, slots=True)
class Nudge:
    """How one word bends the mood; numbers are added up over the words of the prompt."""

    bpm: float = 0.0
    density: float = 0.0
    brightness: float = 0.0
    swing: float = 0.0
    mode: Mode | None = None
    keys: Keys | None = None


LEXICON: dict[str, Nudge] = {
    "slow": Nudge(bpm=-14),
    "sleepy": Nudge(bpm=-12, density=-0.2, brightness=-0.2, keys="pad"),
    "sleep": Nudge(bpm=-12, density=-0.3, brightness=-0.2, keys="pad"),
    "calm": Nudge(bpm=-8, density=-0.2),
    "chill": Nudge(bpm=-4, swing=0.05),
    "relaxing": Nudge(bpm=-6, density=-0.15),
    "relaxed": Nudge(bpm=-6, density=-0.15),
    "ambient": Nudge(bpm=-10, density=-0.35, keys="pad"),
    "dreamy": Nudge(bpm=-5, brightness=0.05, keys="pad", mode="major"),
    "fast": Nudge(bpm=22, density=0.15),
    "upbeat": Nudge(bpm=16, density=0.2, brightness=0.15, mode="major"),
    "energetic": Nudge(bpm=20, density=0.3, brightness=0.15),
    "driving": Nudge(bpm=12, density=0.25),
    "busy": Nudge(density=0.35),
    "sparse": Nudge(density=-0.35),
    "minimal": Nudge(density=-0.35),
    "sad": Nudge(bpm=-5, brightness=-0.1, mode="minor"),
    "melancholic": Nudge(bpm=-4, mode="minor"),
    "nostalgic": Nudge(mode="minor", brightness=-0.1),
    "dark": Nudge(brightness=-0.3, mode="minor"),
    "night": Nudge(bpm=-4, brightness=-0.2, mode="minor"),
    "midnight": Nudge(bpm=-4, brightness=-0.25, mode="minor"),
    "rain": Nudge(bpm=-4, brightness=-0.15, mode="minor"),
    "rainy": Nudge(bpm=-4, brightness=-0.15, mode="minor"),
    "winter": Nudge(bpm=-4, mode="minor"),
    "happy": Nudge(bpm=6, brightness=0.2, mode="major"),
    "sunny": Nudge(bpm=6, brightness=0.25, mode="major"),
    "summer": Nudge(bpm=4, brightness=0.2, mode="major"),
    "morning": Nudge(brightness=0.15, mode="major"),
    "coffee": Nudge(swing=0.05, mode="major"),
    "bright": Nudge(brightness=0.3),
    "warm": Nudge(brightness=-0.15),
    "mellow": Nudge(brightness=-0.2, density=-0.1),
    "vintage": Nudge(brightness=-0.2),
    "dusty": Nudge(brightness=-0.2, swing=0.05),
    "study": Nudge(density=-0.05),
    "jazz": Nudge(swing=0.12, density=0.1, mode="dorian", keys="epiano"),
    "jazzy": Nudge(swing=0.12, density=0.1, mode="dorian", keys="epiano"),
    "swing": Nudge(swing=0.15),
    "straight": Nudge(swing=-0.3),
    "funky": Nudge(bpm=10, density=0.25, swing=0.05, mode="dorian"),
    "soul": Nudge(swing=0.05, mode="dorian", keys="epiano"),
    "piano": Nudge(keys="epiano"),
    "rhodes": Nudge(keys="epiano"),
    "keys": Nudge(keys="epiano"),
    "guitar": Nudge(keys="guitar"),
    "acoustic": Nudge(keys="guitar"),
    "pad": Nudge(keys="pad"),
    "synth": Nudge(keys="pad", brightness=0.1),
    "major": Nudge(mode="major"),
    "minor": Nudge(mode="minor"),
}

_WORD = re.compile(r"[^\W_]+")
_BPM = re.compile(r"(\d{2,3}(?:\.\d+)?)\s*bpm\b")
_KEY = re.compile(r"\b([a-g])(#|b|\s?sharp|\s?flat)?[\s-]+(major|minor)\b")
_TONIC = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}


def stream(prompt: str, seed: int, part: str) -> Random:
    """Return the random stream of one part of the piece; the same arguments give the same numbers."""
    words = " ".join(_WORD.findall(prompt.lower()))
    return Random(f"soundfleet sketch 1\n{seed}\n{part}\n{words}")


def read_mood(prompt: str, seed: int) -> Mood:
    """Return the mood that the prompt's words ask for, completed by the seed."""
    text = prompt.lower()
    chance = stream(prompt, seed, "mood")
    bpm = chance.uniform(68.0, 88.0)
    key = chance.randrange(12)
    mode: Mode = chance.choice(("major", "minor", "dorian"))
    keys: Keys = chance.choice(("epiano", "epiano", "guitar", "pad"))
    density = chance.uniform(0.35, 0.65)
    brightness = chance.uniform(0.35, 0.65)
    swing = chance.uniform(0.08, 0.24)
    for word in _WORD.findall(text):
        nudge = LEXICON.get(word) or _unknown(word)
        bpm += nudge.bpm
        density += nudge.density
        brightness += nudge.brightness
        swing += nudge.swing
        mode = nudge.mode or mode
        keys = nudge.keys or keys
    if named := _KEY.search(text):
        shift = {"#": 1, "sharp": 1, "b": -1, "flat": -1}.get((named[2] or "").strip(), 0)
        key = (_TONIC[named[1]] + shift) % 12
    if told := _BPM.search(text):
        bpm = float(told[1])
    return Mood(
        bpm=round(_clip(bpm, MIN_BPM, MAX_BPM), 2),
        key=key,
        mode=mode,
        density=_clip(density, 0.0, 1.0),
        brightness=_clip(brightness, 0.0, 1.0),
        swing=_clip(swing, 0.0, 0.4),
        keys=keys,
    )


def _unknown(word: str) -> Nudge:
    """Return a small nudge of its own for a word that the lexicon does not hold."""
    a, b, c, d = (byte / 127.5 - 1.0 for byte in blake2b(word.encode(), digest_size=4).digest())
    return Nudge(bpm=2.0 * a, density=0.06 * b, brightness=0.06 * c, swing=0.02 * d)


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
