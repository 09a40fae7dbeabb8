"""What a piece is told of: the encoded prompt, and in the melody models the melody that stands before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .chroma import chromagram, repeated

TEXT_TOKENS = 512
"""As long as the prompts that the text encoder was trained on."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """An encoded prompt."""

    states: torch.Tensor
    """(tokens, decoder width), float32."""
    cut: int
    """Tokens that the text encoder does not read."""
    unknown: int = 0
    """Tokens of its words that the text encoder does not know."""


class TextEncoder:
    """The tokenizer, T5 and the projection to the decoder's width. One prompt at a time, so none is ever padded."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Take the parts of a loaded model that encode text."""
        self._tokenizer = tokenizer
        self._encoder = model.text_encoder
        self._project = getattr(model, "enc_to_dec_proj", None)

    def encode(self, prompt: str) -> Prompt:
        """Encode a prompt; what is beyond TEXT_TOKENS is left out."""
        device = next(self._encoder.parameters()).device
        ids = self._tokenizer(prompt, truncation=False, verbose=False).input_ids
        cut = max(0, len(ids) - TEXT_TOKENS)
        if cut:
            ids = [*ids[: TEXT_TOKENS - 1], ids[-1]]  # the last one says that the text ends
        unknown = ids.count(getattr(self._tokenizer, "unk_token_id", None))
        tokens = torch.tensor([ids], device=device)
        states = self._encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        if self._project is not None:
            states = self._project(states)
        return Prompt(states[0].float(), cut, unknown)


class MelodyEncoder:
    """The melody models' prefix: a chromagram of 30 s of a reference, then the prompt."""

    def __init__(self, model: Any) -> None:
        """Take the parts of a loaded model that encode melodies."""
        self._bins = int(model.config.num_chroma)
        self.length = int(model.config.chroma_length)
        self._rate = int(model.config.audio_encoder.sampling_rate)
        self._project = getattr(model, "audio_enc_to_dec_proj", None)
        self._device = model.device

    def prefix(self, prompt: Prompt, reference: np.ndarray | None, start_sec: float) -> torch.Tensor:
        """Return (2, length + tokens, width): with melody and prompt, and without both.

        ``reference`` is (channels, samples); it is repeated as often as needed, and heard from ``start_sec`` on.
        """
        nothing = torch.zeros(1, self._bins, device=self._device)
        nothing[:, 0] = 1.0
        heard = nothing
        if reference is not None:
            audio = torch.from_numpy(repeated(reference, self._rate, start_sec))
            heard = chromagram(audio, self._rate, self._bins).to(self._device)
        rows = [self._of(heard), self._of(nothing)]
        texts = [prompt.states, torch.zeros_like(prompt.states)]
        return torch.stack([torch.cat(pair) for pair in zip(rows, texts, strict=True)])

    def _of(self, chroma: torch.Tensor) -> torch.Tensor:
        """Project to the decoder's width and bring to the length that it was trained with."""
        states = chroma if self._project is None else self._project(chroma)
        return states.repeat(math.ceil(self.length / len(states)), 1)[: self.length]
