"""Sketch: a deterministic synthesizer that writes short lofi pieces and knows their true stems.

    piece = compose("slow rainy jazz", seed=7, duration_sec=30)
    job = Render(piece)
    while not job.done:
        job.step()                  # one bar
    stems = job.finish()            # drums, bass, other, vocals: float32 (2, samples)
    mix = mixture(stems)            # exactly their sum

Pure numpy. The same (prompt, seed, duration, sample rate) gives the same bytes on the same machine and numpy.
"""

from .composer import compose
from .instruments import Samples
from .master import mixture
from .mood import read_mood
from .render import Render, render
from .score import MAX_DURATION_SEC, MIN_DURATION_SEC, STEMS, Mood, Piece

__all__ = [
    "MAX_DURATION_SEC",
    "MIN_DURATION_SEC",
    "STEMS",
    "Mood",
    "Piece",
    "Render",
    "Samples",
    "compose",
    "mixture",
    "read_mood",
    "render",
]
