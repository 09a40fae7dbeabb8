"""The players: what the drummer, the bassist, the pianist and the singer do in a bar."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .harmony import BASS_LOW, Chord
from .score import Drum, Hit, Mood, Note, Phrase, Syllable, Vowel

TAKES = 4
"""Recorded takes of each drum."""

Slots = tuple[float, ...]
Line = tuple[tuple[float, float], ...]
"""(beat, length in beats) of each note."""

KICKS: tuple[Slots, ...] = ((0, 2.5), (0, 1.5, 2.5), (0, 0.75, 2.5), (0, 2, 3.5), (0, 1.75, 2.5, 3.25))
COMPING: dict[str, tuple[Line, ...]] = {
    "epiano": (
        ((0, 2.4), (2.5, 1.4)),
        ((0, 1.4), (1.5, 2.4)),
        ((0, 3.8),),
        ((0, 1.9), (2, 1.4), (3.5, 0.5)),
    ),
    "pad": (((0, 4.0),), ((0, 2.0), (2, 2.0))),
    "guitar": (
        ((0, 1.4), (1.5, 1.0), (2.5, 1.4)),
        ((0, 0.9), (1, 1.4), (2.5, 0.9), (3.5, 0.5)),
    ),
}
BASS_LINES: tuple[tuple[tuple[float, float, str], ...], ...] = (
    ((0, 1.6, "root"), (1.75, 0.7, "root"), (2.5, 1.4, "fifth")),
    ((0, 2.3, "root"), (2.5, 0.9, "root"), (3.5, 0.45, "next")),
    ((0, 1.4, "root"), (1.5, 0.9, "fifth"), (2.5, 0.9, "root"), (3.5, 0.45, "next")),
    ((0, 2.9, "root"), (3, 0.95, "fifth")),
)
TUNES: tuple[Line, ...] = (
    ((0, 1.5), (1.5, 0.5), (2, 1.75), (4, 1), (5, 1), (6, 1.5)),
    ((0.5, 1), (1.5, 0.5), (2, 1.5), (3.5, 0.5), (4, 3)),
    ((0, 1), (1, 1), (2, 0.5), (2.5, 1.25), (4, 0.5), (4.5, 0.5), (5, 2.25)),
    ((0.5, 0.5), (1, 0.5), (1.5, 2), (4, 0.5), (4.5, 0.5), (5, 0.5), (5.5, 1.75)),
    ((0, 2.5), (3, 1), (4, 2), (6, 1.25)),
)
VOWELS: tuple[Vowel, ...] = ("a", "o", "e", "i", "u")


@dataclass(frozen=True, slots=True)
class Groove:
    """The drummer's choice for a whole piece."""

    kicks: tuple[Slots, Slots]
    hat_step: float
    """Beats between two hats: 0.5 or 0.25."""
    backbeat: Drum


def choose_groove(mood: Mood, chance: Random) -> Groove:
    """Return the groove of a piece."""
    first, second = chance.sample(KICKS, 2)
    sixteenths = mood.density > 0.6 and mood.bpm < 100
    return Groove((first, second), 0.25 if sixteenths else 0.5, "rim" if mood.density < 0.3 else "snare")


def choose_comping(mood: Mood, chance: Random) -> Line:
    """Return the rhythm in which the chords are struck."""
    return chance.choice(COMPING[mood.keys])


def swung(mood: Mood, beat: float) -> float:
    """Return where a beat falls once its off-beat eighth is delayed by the swing."""
    within = beat % 1.0
    late = 0.5 * mood.swing
    warped = within * (0.5 + late) / 0.5 if within < 0.5 else 1.0 - (1.0 - within) * (0.5 - late) / 0.5
    return beat - within + warped


def drum_bar(mood: Mood, chance: Random, groove: Groove, start_sec: float, *, fill: bool) -> tuple[Hit, ...]:
    """Return one bar of drums; a `fill` ends on extra snares."""
    beat = 60.0 / mood.bpm
    hits: list[Hit] = []

    def strike(at: float, drum: Drum, velocity: float) -> None:
        late = max(0.0, chance.gauss(0.004, 0.004))
        loud = velocity * chance.uniform(0.9, 1.05)
        hits.append(Hit(start_sec + swung(mood, at) * beat + late, drum, loud, chance.randrange(TAKES)))

    for at in groove.kicks[chance.random() < 0.3]:
        strike(at, "kick", 1.0 if at == 0 else 0.85)
    for at in (1.0, 3.0):
        strike(at, groove.backbeat, 1.0)
    for ghost in (1.75, 2.25, 3.75):
        if chance.random() < 0.5 * mood.density:
            strike(ghost, groove.backbeat, 0.25)
    if fill:
        for at in (3.25, 3.5, 3.75):
            strike(at, "snare", 0.3 + 0.2 * (at - 3.0))
    steps = round(4 / groove.hat_step)
    for step in range(steps):
        at = step * groove.hat_step
        if at % 1.0 in (0.0, 0.5) or chance.random() < mood.density:
            opened = at == 3.5 and chance.random() < 0.4
            strike(at, "open" if opened else "hat", 0.9 if at % 1.0 == 0.5 else 0.65)
    return tuple(hits)


def bass_bar(mood: Mood, chance: Random, start_sec: float, harmony: Chord, following: Chord) -> tuple[Note, ...]:
    """Return one bar of bass: root and fifth, sometimes leading by a semitone into the next chord."""
    beat = 60.0 / mood.bpm
    line = chance.choice(BASS_LINES if mood.density > 0.4 else (BASS_LINES[0], BASS_LINES[3]))
    lead_in = max(BASS_LOW - 1, following.root + chance.choice((-1, 1, 2)))
    pitches = {"root": harmony.root, "fifth": harmony.fifth, "next": lead_in}
    notes = []
    for at, length, role in line:
        begin = swung(mood, at)
        notes.append(
            Note(
                start_sec=start_sec + begin * beat + max(0.0, chance.gauss(0.008, 0.004)),
                length_sec=length * beat,
                pitch=pitches[role],
                velocity=chance.uniform(0.85, 1.0) if at == 0 else chance.uniform(0.7, 0.9),
            )
        )
    return tuple(notes)


def chord_bar(mood: Mood, chance: Random, comping: Line, start_sec: float, harmony: Chord) -> tuple[Note, ...]:
    """Return one bar of chords, each strummed from low to high and spread from left to right."""
    beat = 60.0 / mood.bpm
    notes = []
    spread = len(harmony.voicing) - 1
    for at, length in comping:
        loud = chance.uniform(0.85, 1.0) if at == 0 else chance.uniform(0.65, 0.85)
        strum = chance.uniform(0.006, 0.022)
        side = chance.choice((-1.0, 1.0))
        for string, pitch in enumerate(harmony.voicing):
            notes.append(
                Note(
                    start_sec=start_sec + swung(mood, at) * beat + strum * string,
                    length_sec=length * beat,
                    pitch=pitch,
                    velocity=loud * chance.uniform(0.85, 1.0),
                    pan=side * 0.7 * (2.0 * string / spread - 1.0),
                )
            )
    return tuple(notes)


def sing(
    mood: Mood,
    chance: Random,
    start_sec: float,
    bars: int,
    harmonies: tuple[Chord, Chord],
    scale: tuple[int, ...],
    pitch: int,
) -> tuple[Phrase, int]:
    """Return a phrase of one or two bars that wanders over `scale` from `pitch`, and its last pitch."""
    beat = 60.0 / mood.bpm
    tunes = TUNES if mood.density > 0.35 else (TUNES[1], TUNES[4])
    syllables = []
    place = scale.index(pitch)
    for at, length in chance.choice(tunes):
        if at >= 4 * bars:
            break
        place += chance.choice((-2, -1, -1, 0, 1, 1, 2))
        place = min(max(place, 0), len(scale) - 1)
        if length >= 1.0:
            place = _settle(scale, place, harmonies[at >= 4].classes)
        begin, end = swung(mood, at), min(swung(mood, at + length), 4.0 * bars - 0.25)
        syllables.append(
            Syllable(
                start_sec=begin * beat,
                length_sec=max(0.2, end - begin) * beat,
                pitch=scale[place],
                vowel=chance.choice(VOWELS),
                velocity=chance.uniform(0.8, 1.0),
            )
        )
    return Phrase(start_sec, tuple(syllables), 0.75 * beat), scale[place]


def _settle(scale: tuple[int, ...], place: int, classes: frozenset[int]) -> int:
    """Return the place nearest to `place` whose pitch belongs to the chord."""
    fitting = [index for index, pitch in enumerate(scale) if pitch % 12 in classes]
    return min(fitting, key=lambda index: (abs(index - place), index)) if fitting else place
