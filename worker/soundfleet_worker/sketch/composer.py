"""From (prompt, seed, duration) to a score: form first, then each player bar by bar."""

from __future__ import annotations

import math
from random import Random

from . import players
from .harmony import PROGRESSIONS, Chord, chord, lead_pitches
from .mood import read_mood, stream
from .score import MAX_DURATION_SEC, MIN_DURATION_SEC, Bar, Mood, Phrase, Piece

BEATS = 4
LONG_FORM_BARS = 14
"""From this many bars on a piece has an intro and an outro without the voice."""


def compose(prompt: str, seed: int, duration_sec: float, sample_rate: int = 48_000) -> Piece:
    """Plan a piece; cheap, and the same arguments always give the same score.

    Raises ValueError when `duration_sec` is outside 5 to 240 or `sample_rate` outside 8,000 to 192,000.
    """
    if not MIN_DURATION_SEC <= duration_sec <= MAX_DURATION_SEC:
        raise ValueError(f"duration_sec must be {MIN_DURATION_SEC:g} to {MAX_DURATION_SEC:g}, got {duration_sec!r}")
    if not 8_000 <= sample_rate <= 192_000:
        raise ValueError(f"sample_rate must be 8000 to 192000 Hz, got {sample_rate!r}")
    mood = read_mood(prompt, seed)
    beat = 60.0 / mood.bpm
    count = math.ceil(duration_sec / (BEATS * beat))
    long = count >= LONG_FORM_BARS
    sung = range(2 if long else 0, count - 2 if long else count)
    form = stream(prompt, seed, "form")
    changes = _changes(mood, form, count)
    bars = _bars(prompt, seed, mood, changes, sung)
    return Piece(
        prompt=prompt,
        seed=seed,
        duration_sec=duration_sec,
        sample_rate=sample_rate,
        mood=mood,
        bars=bars,
        fade_in_sec=0.01 if not long else beat,
        fade_out_sec=min(6.0, max(1.0, duration_sec / 12)),
        levels_db=(
            form.uniform(-1.0, 1.0),
            form.uniform(-1.0, 1.0),
            form.uniform(-1.0, 1.0),
            form.uniform(-0.5, 1.5),
        ),
        sung=len(sung) / count,
    )


def _changes(mood: Mood, form: Random, count: int) -> list[Chord]:
    """Return one chord per bar: two progressions in turn, eight bars each."""
    verse, bridge = form.sample(PROGRESSIONS[mood.mode], 2)
    plan = [(bridge if index // 8 % 3 == 2 else verse)[index % 4] for index in range(count)]
    return [chord(mood.key, degree, quality) for degree, quality in plan]


def _bars(prompt: str, seed: int, mood: Mood, changes: list[Chord], sung: range) -> tuple[Bar, ...]:
    """Return the bars with every player's part."""
    beat = 60.0 / mood.bpm
    drums, bass, keys, voice = (stream(prompt, seed, part) for part in ("drums", "bass", "keys", "voice"))
    groove = players.choose_groove(mood, drums)
    comping = players.choose_comping(mood, keys)
    scale = lead_pitches(mood.key, mood.mode)
    pitch = scale[len(scale) // 2]
    bars = []
    for index, harmony in enumerate(changes):
        start = index * BEATS * beat
        following = changes[(index + 1) % len(changes)]
        phrases: tuple[Phrase, ...] = ()
        if index in sung and (index - sung.start) % 2 == 0:
            room = min(2, sung.stop - index)
            phrase, pitch = players.sing(mood, voice, start, room, (harmony, following), scale, pitch)
            phrases = (phrase,)
        bars.append(
            Bar(
                drums=players.drum_bar(mood, drums, groove, start, fill=index % 8 == 7),
                bass=players.bass_bar(mood, bass, start, harmony, following),
                chords=players.chord_bar(mood, keys, comping, start, harmony),
                phrases=phrases,
            )
        )
    return tuple(bars)
