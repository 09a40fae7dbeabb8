"""A run's texts as the checkpoints were trained on them: instruction, caption and metadata; language and lyrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soundfleet_schemas import Task
from soundfleet_schemas.music import SongOptions

if TYPE_CHECKING:
    from .plan import Plan

MAX_TEXT_TOKENS = 256
MAX_LYRICS_TOKENS = 2048
LENGTHS = (128, 256, 512, 1024, 1536, 2048, 2560)
"""To which words are padded: by their own length only, so that company changes nothing; few, so that runs meet."""

_INSTRUCTIONS = {
    Task.text2music: "Fill the audio semantic mask based on the given conditions:",
    Task.repaint: "Repaint the mask area based on the given conditions:",
    Task.cover: "Generate audio semantic tokens based on the given conditions:",
    Task.extract: "Extract the {} track from the audio:",
    Task.lego: "Generate the {} track based on the audio context:",
    Task.complete: "Complete the input track with {}:",
}
_UNNAMED = {
    Task.extract: "Extract the track from the audio:",
    Task.lego: "Generate the track based on the audio context:",
    Task.complete: "Complete the input track:",
}


@dataclass(frozen=True, slots=True)
class Words:
    """Token numbers of a run's texts."""

    text: tuple[int, ...]
    lyrics: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def count(self) -> int:
        """What the transformer is told; between text and lyrics stands the timbre."""
        return len(self.text) + len(self.lyrics) + 1

    @property
    def length(self) -> int:
        """The same, padded."""
        return next(length for length in LENGTHS if length >= self.count)


def words_of(tokenizer: Any, plan: Plan, task: Task | None = None) -> Words:
    """Write and tokenise a run's texts, as ``task`` when it is not the run's own."""
    text, cut = _tokens(tokenizer, text_of(plan, task or plan.song.task), MAX_TEXT_TOKENS)
    warnings = []
    if cut:
        warnings.append(
            f"the prompt was cut: with its instruction and metadata it has {cut} tokens, the model reads "
            f"{MAX_TEXT_TOKENS}, and what stands at the end (tempo, key, duration) was not read"
        )
    lyrics, cut = _tokens(tokenizer, lyrics_of(plan.song), MAX_LYRICS_TOKENS)
    if cut:
        warnings.append(f"the lyrics were cut: they have {cut} tokens, the model reads {MAX_LYRICS_TOKENS}")
    return Words(text, lyrics, tuple(warnings))


def _tokens(tokenizer: Any, text: str, most: int) -> tuple[tuple[int, ...], int]:
    """Return what the model reads, and how many tokens there were when that is less, else 0."""
    count = len(tokenizer(text).input_ids)
    read = tuple(tokenizer(text, truncation=True, max_length=most).input_ids)
    return read, count if count > most else 0


def text_of(plan: Plan, task: Task) -> str:
    """Write the text of a prompt."""
    song = plan.song
    metadata = {
        "bpm": song.bpm or "N/A",
        "timesignature": song.time_signature or "N/A",
        "keyscale": song.key or "N/A",
        "duration": f"{plan.spoken_sec} seconds",
    }
    lines = "".join(f"- {name}: {value}\n" for name, value in metadata.items())
    return f"# Instruction\n{instruction_of(song, task)}\n\n# Caption\n{plan.prompt}\n\n# Metas\n{lines}<|endoftext|>\n"


def lyrics_of(song: SongOptions) -> str:
    """Write the text of lyrics."""
    return f"# Languages\n{song.language}\n\n# Lyric\n{song.lyrics}<|endoftext|>"


def instruction_of(song: SongOptions, task: Task) -> str:
    """Say what is to be done."""
    if task in _UNNAMED and not song.tracks:
        return _UNNAMED[task]
    return _INSTRUCTIONS[task].format(" | ".join(track.upper() for track in song.tracks))
