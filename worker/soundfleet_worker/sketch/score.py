"""The score of a sketch: frozen values that say everything the renderer will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STEMS: tuple[str, str, str, str] = ("drums", "bass", "other", "vocals")
"""Names of the stems, in the order Demucs uses."""

MIN_DURATION_SEC = 5.0
MAX_DURATION_SEC = 240.0

Mode = Literal["major", "minor", "dorian"]
Keys = Literal["epiano", "pad", "guitar"]
Drum = Literal["kick", "snare", "rim", "hat", "open"]
Vowel = Literal["a", "o", "e", "i", "u"]


@dataclass(frozen=True, slots=True)
class Mood:
    """What the prompt's words ask for."""

    bpm: float
    key: int
    """Pitch class of the tonic, 0 (C) to 11 (B)."""
    mode: Mode
    density: float
    """0 (sparse) to 1 (busy)."""
    brightness: float
    """0 (muffled) to 1 (open)."""
    swing: float
    """Delay of the off-beat eighths as a fraction of an eighth, 0 to 0.4."""
    keys: Keys
    """The instrument that plays the chords."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One stroke on the drum kit."""

    start_sec: float
    drum: Drum
    velocity: float
    take: int
    """Which of the kit's recorded takes of this drum is used."""


@dataclass(frozen=True, slots=True)
class Note:
    """One note of the bass or of the chords."""

    start_sec: float
    length_sec: float
    pitch: int
    """MIDI note number."""
    velocity: float
    pan: float = 0.0
    """-1 (left) to 1 (right)."""


@dataclass(frozen=True, slots=True)
class Syllable:
    """One sung note; times are relative to its phrase."""

    start_sec: float
    length_sec: float
    pitch: int
    vowel: Vowel
    velocity: float


@dataclass(frozen=True, slots=True)
class Phrase:
    """What the voice sings in one breath."""

    start_sec: float
    syllables: tuple[Syllable, ...]
    echo_sec: float
    """Delay of the single soft echo."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Everything that begins within one bar: the unit of rendering."""

    drums: tuple[Hit, ...]
    bass: tuple[Note, ...]
    chords: tuple[Note, ...]
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A whole sketch, planned but not yet rendered."""

    prompt: str
    seed: int
    duration_sec: float
    sample_rate: int
    mood: Mood
    bars: tuple[Bar, ...]
    fade_in_sec: float
    fade_out_sec: float
    levels_db: tuple[float, float, float, float]
    """Loudness of each stem relative to the others, in the order of `STEMS`."""
    sung: float
    """Share of the bars in which the voice sings, above 0 to 1."""

    @property
    def samples(self) -> int:
        """Length of the audio in samples."""
        return round(self.duration_sec * self.sample_rate)
