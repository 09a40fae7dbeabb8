"""What the transformer is told of one run: words, timbre, and the latents that it works on. Made once, alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soundfleet_schemas import Task

from .parts import TIMBRE_SEC
from .words import Words

if TYPE_CHECKING:
    import torch

    from .denoiser import Denoiser
    from .parts import Parts
    from .plan import Plan


@dataclass(frozen=True, slots=True)
class Opinion:
    """Embedded words, (n, width), and where they are, (1, 1, n): what follows is padding."""

    words: torch.Tensor
    mask: torch.Tensor
    whole: bool
    """Whether there never is padding: where launches are shared there may be, and company must change nothing."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Of one run."""

    worded: Opinion
    plain: Opinion | None
    """The same song as if there were no source, of a cover that follows it in part."""
    context: torch.Tensor
    """(frames, 2 channels): the latents that are worked on, and which frames are made anew."""


def conditions_of(
    parts: Parts,
    denoiser: Denoiser,
    plan: Plan,
    words: Words,
    plain: Words | None,
    source: torch.Tensor | None,
    reference: torch.Tensor | None,
    *,
    shared: bool,
) -> Conditions:
    """Encode texts and timbre, and lay out the context; ``source`` and ``reference`` are latents.

    Where launches are ``shared``, words are padded to one of a few lengths.
    """
    timbre = reference if reference is not None else _silence(parts, math.ceil(TIMBRE_SEC * parts.frames_per_sec))
    length = max(said.length if shared else said.count for said in (words, plain) if said)
    whole = not shared and plain is None
    worded = _opinion(parts, denoiser, words, timbre, length, whole)
    other = _opinion(parts, denoiser, plain, timbre, length, whole) if plain else None
    return Conditions(worded, other, _context(parts, plan, source))


def _opinion(parts: Parts, denoiser: Denoiser, words: Words, timbre: torch.Tensor, length: int, whole: bool) -> Opinion:
    import torch

    text = torch.tensor([words.text], device=parts.device)
    lyrics = torch.tensor([words.lyrics], device=parts.device)
    said, _mask = parts.condition_encoder(
        text_hidden_states=parts.text_encoder(input_ids=text, use_cache=False).last_hidden_state,
        text_attention_mask=torch.ones_like(text, dtype=torch.bool),
        lyric_hidden_states=parts.text_encoder.get_input_embeddings()(lyrics),
        lyric_attention_mask=torch.ones_like(lyrics, dtype=torch.bool),
        refer_audio_acoustic_hidden_states_packed=timbre[None].to(parts.device, parts.dtype),
        refer_audio_order_mask=torch.zeros(1, dtype=torch.long, device=parts.device),
    )
    embedded = denoiser.embed(said)[0]
    count = embedded.shape[0]
    mask = (torch.arange(length, device=parts.device) < count)[None, None]
    return Opinion(torch.nn.functional.pad(embedded, (0, 0, 0, length - count)), mask, whole)


def _silence(parts: Parts, frames: int) -> torch.Tensor:
    """Return the latents of silence, (frames, channels), as the checkpoint has them."""
    silence = parts.condition_encoder.silence_latent[0]
    if len(silence) < frames:
        silence = silence.repeat(math.ceil(frames / len(silence)), 1)
    latents: torch.Tensor = silence[:frames]
    return latents


def _context(parts: Parts, plan: Plan, source: torch.Tensor | None) -> torch.Tensor:
    import torch

    silence = _silence(parts, plan.frames).to(parts.dtype)
    anew = torch.ones((plan.frames, 1), dtype=parts.dtype, device=parts.device)
    if source is None:
        return torch.cat([silence, anew.expand_as(silence)], dim=-1)
    latents = source.to(parts.device, parts.dtype)
    if plan.song.task is Task.cover:
        latents = _melody(parts, latents)
    if plan.song.task in (Task.repaint, Task.lego):
        first, last = _window(parts, plan)
        anew[:first] = anew[last:] = 0
    if plan.song.task is Task.repaint:
        latents = torch.where(anew > 0, silence, latents)
    return torch.cat([latents, anew.expand_as(latents)], dim=-1)


def _melody(parts: Parts, latents: torch.Tensor) -> torch.Tensor:
    """Reduce a source to what a cover keeps of it: its audio codes, back as latents."""
    codes, _numbers = parts.audio_tokenizer.tokenize(latents[None], parts.condition_encoder.silence_latent)
    kept: torch.Tensor = parts.audio_token_detokenizer(codes.to(parts.dtype))[0, : len(latents)]
    return kept


def _window(parts: Parts, plan: Plan) -> tuple[int, int]:
    """Return the frames that are made anew: at least one."""
    start, end = plan.song.repaint_start_sec or 0.0, plan.song.repaint_end_sec
    first = min(int(start * parts.frames_per_sec), plan.frames - 1)
    last = int(end * parts.frames_per_sec) if end else plan.frames
    return first, max(first + 1, min(last, plan.frames))
