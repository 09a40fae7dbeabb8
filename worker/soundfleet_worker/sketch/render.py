"""From a score to stems, one bar at a time."""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np

from .drums import Kit
from .instruments import BASS, KEYS, Sampler, Samples
from .master import master
from .score import STEMS, Bar, Piece
from .voice import Voice

ECHO_GAIN = 0.16


class Render:
    """A rendering in progress: call `step()` until `done`, then `finish()`.

    The result does not depend on how the steps are spread over time.
    """

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.total = len(piece.bars)
        """Number of units (bars)."""
        self.position = 0
        """Number of units rendered."""
        rate, tone = piece.sample_rate, piece.mood.brightness
        digest = blake2b(f"{piece.prompt}\n{piece.seed}".encode(), digest_size=6).digest()
        self._kit = Kit(int.from_bytes(digest, "big"), rate, tone)
        self._bass = Sampler(BASS, rate, tone, channels=1)
        self._keys = Sampler(KEYS[piece.mood.keys], rate, tone, channels=2)
        self._voice = Voice(rate, tone)
        wide = {"drums": 2, "bass": 1, "other": 2, "vocals": 1}
        self._tracks = {stem: np.zeros((wide[stem], piece.samples), dtype=np.float32) for stem in STEMS}
        self._finished = False

    @property
    def done(self) -> bool:
        """Whether every bar is rendered."""
        return self.position >= self.total

    def step(self) -> None:
        """Render everything that begins in the next bar."""
        if self.done:
            raise RuntimeError("every bar of this sketch is rendered: call finish()")
        self._render(self.piece.bars[self.position])
        self.position += 1

    def finish(self) -> dict[str, Samples]:
        """Return the mastered stems by name in the order of `STEMS`, (2, piece.samples) each.

        Callable once: the buffers are handed over, not copied.
        """
        if not self.done or self._finished:
            raise RuntimeError("finish() is called once, after the last step()")
        self._finished = True
        return master(self.piece, self._tracks)

    def _render(self, bar: Bar) -> None:
        for hit in bar.drums:
            self._mix("drums", hit.start_sec, self._kit.take(hit.drum, hit.take), (hit.velocity, hit.velocity))
        for note in bar.bass:
            self._mix("bass", note.start_sec, self._bass.play(note.pitch, note.length_sec), (note.velocity,))
        for note in bar.chords:
            angle = (note.pan + 1.0) * math.pi / 4.0
            sides = (note.velocity * math.cos(angle), note.velocity * math.sin(angle))
            self._mix("other", note.start_sec, self._keys.play(note.pitch, note.length_sec), sides)
        for phrase in bar.phrases:
            sung = self._voice.sing(phrase)[None]
            self._mix("vocals", phrase.start_sec, sung, (1.0,))
            self._mix("vocals", phrase.start_sec + phrase.echo_sec, sung, (ECHO_GAIN,))

    def _mix(self, stem: str, start_sec: float, sound: Samples, gains: tuple[float, ...]) -> None:
        """Add a sound (channels, n) to a track, cut at the end of the piece."""
        track = self._tracks[stem]
        start = round(start_sec * self.piece.sample_rate)
        room = min(sound.shape[1], track.shape[1] - start)
        if room > 0:
            for channel, gain in enumerate(gains):
                track[channel, start : start + room] += sound[channel, :room] * np.float32(gain)


def render(piece: Piece) -> dict[str, Samples]:
    """Return the mastered stems of a piece, rendered in one go."""
    job = Render(piece)
    while not job.done:
        job.step()
    return job.finish()
