"""Chords, voicings and scales: which pitches sound good together."""

from __future__ import annotations

from dataclasses import dataclass

from .score import Mode

BASS_LOW = 33
"""Lowest MIDI pitch of the bass (A1, 55 Hz)."""
CHORD_LOW = 52
"""Lowest MIDI pitch of a chord voicing (E3, 165 Hz)."""
LEAD_LOW = 69
LEAD_HIGH = 83
"""Range of the voice (A4 to B5, 440 to 988 Hz): above the chords."""

QUALITIES: dict[str, tuple[int, ...]] = {
    "maj7": (0, 4, 7, 11, 14),
    "m7": (0, 3, 7, 10, 14),
    "dom": (0, 4, 7, 10, 14),
    "half": (0, 3, 6, 10),
    "m6": (0, 3, 7, 9, 14),
}

PROGRESSIONS: dict[Mode, tuple[tuple[tuple[int, str], ...], ...]] = {
    "major": (
        ((2, "m7"), (7, "dom"), (0, "maj7"), (9, "m7")),
        ((0, "maj7"), (9, "m7"), (2, "m7"), (7, "dom")),
        ((5, "maj7"), (4, "m7"), (2, "m7"), (0, "maj7")),
        ((0, "maj7"), (4, "m7"), (5, "maj7"), (5, "m6")),
        ((5, "maj7"), (7, "dom"), (4, "m7"), (9, "m7")),
    ),
    "minor": (
        ((0, "m7"), (8, "maj7"), (5, "m7"), (7, "m7")),
        ((0, "m7"), (5, "m7"), (10, "dom"), (3, "maj7")),
        ((8, "maj7"), (10, "dom"), (0, "m7"), (0, "m7")),
        ((2, "half"), (7, "dom"), (0, "m7"), (8, "maj7")),
        ((5, "m7"), (7, "m7"), (8, "maj7"), (0, "m7")),
    ),
    "dorian": (
        ((0, "m7"), (5, "dom"), (0, "m7"), (5, "dom")),
        ((0, "m7"), (2, "m7"), (3, "maj7"), (5, "dom")),
        ((3, "maj7"), (2, "m7"), (0, "m7"), (10, "maj7")),
        ((0, "m7"), (10, "maj7"), (5, "dom"), (3, "maj7")),
    ),
}

SCALES: dict[Mode, tuple[int, ...]] = {
    "major": (0, 2, 4, 7, 9),
    "minor": (0, 3, 5, 7, 10),
    "dorian": (0, 2, 3, 7, 9, 10),
}


@dataclass(frozen=True, slots=True)
class Chord:
    """One chord as the players need it."""

    root: int
    """MIDI pitch of the bass note."""
    fifth: int
    """MIDI pitch of the bass player's other note."""
    voicing: tuple[int, ...]
    """MIDI pitches of the chord player's notes, low to high, without the root where it can be spared."""
    classes: frozenset[int]
    """Pitch classes on which a sung note may rest."""


def lift(pitch_class: int, low: int) -> int:
    """Return the lowest MIDI pitch of this class at or above `low`."""
    return low + (pitch_class - low) % 12


def chord(key: int, degree: int, quality: str) -> Chord:
    """Return the chord on a degree (in semitones above the tonic's pitch class `key`)."""
    root = (key + degree) % 12
    classes = [(root + step) % 12 for step in QUALITIES[quality]]
    upper = classes[1:] if len(classes) > 4 else classes
    bass = lift(root, BASS_LOW)
    return Chord(
        root=bass,
        fifth=lift(classes[2], max(BASS_LOW, bass - 5)),
        voicing=tuple(sorted(lift(pitch_class, CHORD_LOW) for pitch_class in upper)),
        classes=frozenset(classes[:4]),
    )


def lead_pitches(key: int, mode: Mode) -> tuple[int, ...]:
    """Return the MIDI pitches of the voice's scale within its range, low to high."""
    classes = {(key + step) % 12 for step in SCALES[mode]}
    return tuple(pitch for pitch in range(LEAD_LOW, LEAD_HIGH + 1) if pitch % 12 in classes)
