"""What a caller may ask of a generation beyond the prompt, one group of options per family of models."""

from __future__ import annotations

from .base import Strict
from .enums import Task

GUIDANCE = (1.0, 30.0)
TEMPERATURE = (0.0, 2.0)
MAX_TOP_K = 2048
"""Codes in one of MusicGen's codebooks."""
BPM = (30, 300)
SHIFT = (1.0, 10.0)
LORA_SCALE = (0.0, 2.0)
TIME_SIGNATURES = ("2", "3", "4", "6")
"""Beats per bar, as ACE-Step names them."""
MAX_LYRICS_CHARS = 10_000
LANGUAGE = r"[a-z]{2,3}|unknown"
KEY = r"[A-G][#b]? (major|minor)"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""Of a LoRA: a folder, never a path."""
TRACKS = (
    "vocals",
    "backing_vocals",
    "drums",
    "bass",
    "guitar",
    "keyboard",
    "percussion",
    "strings",
    "synth",
    "fx",
    "brass",
    "woodwinds",
)
"""What ACE-Step's base checkpoints take out of a song, add to it, or complete it with."""


class SamplingOptions(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """How MusicGen draws its tokens. Other backends refuse it."""

    guidance: float = 3.0
    """How much the prompt counts, 1 (off) to 30. Classifier-free guidance (Ho and Salimans 2022)."""
    top_k: int = 250
    """Draw among so many codes; 0 for all."""
    top_p: float = 0.0
    """Draw among the likeliest codes that hold this probability together, in place of top_k; 0 is off."""
    temperature: float = 1.0
    """Of the draw, 0 to 2; 0 takes the likeliest code, and the seed does not act."""


class SongOptions(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """What ACE-Step is told of a song. Other backends refuse it."""

    lyrics: str = ""
    """With marks like ``[verse]``; instrumental when empty."""
    language: str = "en"
    """Of the lyrics: a code of two or three letters, or ``unknown``."""
    bpm: int | None = None
    key: str | None = None
    """Like ``C major`` or ``F# minor``."""
    time_signature: str | None = None
    """Beats per bar: 2, 3, 4 or 6."""
    shift: float | None = None
    """Of the timesteps towards the noisy end, 1 to 10; the checkpoint's own when left out."""
    task: Task = Task.text2music
    tracks: tuple[str, ...] = ()
    """Of the tasks extract and lego the one track, of complete those to add."""
    repaint_start_sec: float | None = None
    """Of the task repaint: where the part that is made anew begins; the beginning when left out."""
    repaint_end_sec: float | None = None
    """Where it ends; the end when left out."""
    cover_strength: float = 1.0
    """Of the task cover: how much of the source stays, 0 to 1."""
    lora: str | None = None
    """Name of a LoRA beside the checkpoint."""
    lora_scale: float = 1.0
