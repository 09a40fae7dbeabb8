"""The modules of a loaded checkpoint, and the few facts of it that everything else counts in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SHORTEST_SEC = 10
"""What the checkpoints were trained on; shorter music is cut out of as much."""
TIMBRE_SEC = 30
"""What the timbre encoder hears."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The modules, in eval mode on their device."""

    transformer: Any
    condition_encoder: Any
    vae: Any
    text_encoder: Any
    audio_tokenizer: Any
    """With the detokenizer, for covers; None when the checkpoint lacks them."""
    audio_token_detokenizer: Any
    tokenizer: Any
    """Of words."""
    device: torch.device
    dtype: torch.dtype
    weights: tuple[str, ...] = ()

    @property
    def turbo(self) -> bool:
        """Whether guidance is distilled into the weights."""
        config = self.transformer.config
        return bool(config.is_turbo) or config.model_version == "turbo"

    @property
    def channels(self) -> int:
        """Of a latent frame."""
        return int(self.transformer.config.audio_acoustic_hidden_dim)

    @property
    def sample_rate(self) -> int:
        return int(self.vae.config.sampling_rate)

    @property
    def hop(self) -> int:
        """Samples of audio per latent frame."""
        return math.prod(self.vae.config.downsampling_ratios)

    @property
    def frames_per_sec(self) -> float:
        return self.sample_rate / self.hop

    def frames_of(self, samples: int) -> int:
        """Return how many latent frames hold so many samples."""
        return -(-samples // self.hop)

    def modules(self) -> tuple[Any, ...]:
        """Return those that have weights."""
        with_weights = (self.transformer, self.condition_encoder, self.vae, self.text_encoder)
        return (*with_weights, *filter(None, (self.audio_tokenizer, self.audio_token_detokenizer)))

    @property
    def weight_bytes(self) -> int:
        """What the weights and buffers take on the device."""
        tensors = (t for module in self.modules() for t in (*module.parameters(), *module.buffers()))
        return sum(t.numel() * t.element_size() for t in tensors)
