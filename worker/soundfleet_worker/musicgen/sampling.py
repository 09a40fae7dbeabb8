"""From logits to tokens: guidance, temperature, top-k, top-p, and one uniform number per token.

A token is drawn by inverting the cumulative distribution at a number that was drawn for its position when the run
began. So what a run draws depends on its seed alone: not on its neighbours, not on its slot, and a step that failed
and is repeated draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from soundfleet_schemas import GenerationRequest, SamplingOptions


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a run draws its tokens: what its request comes to."""

    guidance: float
    """1 is no guidance: the model without the prompt is then not asked."""
    top_k: int
    """1 takes the likeliest token; 0 leaves every one in."""
    top_p: float
    """1 leaves every token in."""
    temperature: float

    @property
    def guided(self) -> bool:
        """Whether the unconditional row counts."""
        return self.guidance > 1.0

    @property
    def greedy(self) -> bool:
        """Whether the seed does not act."""
        return self.top_k == 1


def settings_of(request: GenerationRequest) -> Sampling:
    """Return what a request comes to: temperature 0 is greedy, and top_p stands in the place of top_k."""
    asked = request.sampling or SamplingOptions()
    if asked.temperature == 0.0:
        return Sampling(asked.guidance, top_k=1, top_p=1.0, temperature=1.0)
    if asked.top_p > 0.0:
        return Sampling(asked.guidance, top_k=0, top_p=asked.top_p, temperature=asked.temperature)
    return Sampling(asked.guidance, asked.top_k, top_p=1.0, temperature=asked.temperature)


def uniforms(seed: int, codebooks: int, lengths: tuple[int, ...]) -> list[torch.Tensor]:
    """Draw the numbers of a whole run: one tensor (codebooks, positions) in [0, 1) per window."""
    draws = np.random.Generator(np.random.Philox(seed))
    return [torch.from_numpy(draws.random((codebooks, length), dtype=np.float32)) for length in lengths]


@dataclass(slots=True)
class Knobs:
    """The settings of all slots, one value each, where the kernels read them."""

    guidance: torch.Tensor
    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor

    @classmethod
    def on(cls, device: torch.device, slots: int) -> Knobs:
        """Make knobs that stand at greedy decoding."""
        return cls(
            guidance=torch.ones(slots, device=device),
            temperature=torch.ones(slots, device=device),
            top_k=torch.ones(slots, dtype=torch.long, device=device),
            top_p=torch.ones(slots, device=device),
        )

    def turn(self, slot: int, wanted: Sampling, vocabulary: int) -> None:
        """Set one slot's."""
        self.guidance[slot] = wanted.guidance
        self.temperature[slot] = wanted.temperature
        self.top_k[slot] = wanted.top_k or vocabulary
        self.top_p[slot] = wanted.top_p

    def copy(self, slot: int, other: Knobs, source: int) -> None:
        """Take one slot's over from another's."""
        for name in ("guidance", "temperature", "top_k", "top_p"):
            getattr(self, name)[slot] = getattr(other, name)[source]

    def of(self, rows: torch.Tensor) -> Knobs:
        """Return those of some slots."""
        return Knobs(self.guidance[rows], self.temperature[rows], self.top_k[rows], self.top_p[rows])


def guide(logits: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
    """Combine the rows with and without the prompt, (2, slots, codebooks, vocabulary), into one."""
    scale = guidance[:, None, None]
    return torch.where(scale > 1.0, logits[1] + (logits[0] - logits[1]) * scale, logits[0])


def choose(logits: torch.Tensor, uniform: torch.Tensor, knobs: Knobs) -> torch.Tensor:
    """Draw a token per slot and codebook: logits (slots, codebooks, vocabulary), uniform (slots, codebooks).

    Of equally likely tokens the first comes first.
    """
    ordered = _descending(logits)
    rank = torch.arange(logits.shape[-1], device=logits.device)
    kept = rank < knobs.top_k[:, None, None]
    scaled = (ordered / knobs.temperature[:, None, None]).masked_fill(~kept, -torch.inf)
    shares = torch.softmax(scaled, dim=-1)
    sums = torch.cumsum(shares, dim=-1)
    kept = kept & (sums - shares < knobs.top_p[:, None, None])
    last = kept.sum(dim=-1, keepdim=True).clamp_(min=1) - 1
    target = uniform[..., None] * sums.gather(-1, last)
    place = torch.minimum((sums <= target).sum(dim=-1, keepdim=True), last)
    drawn = ordered.gather(-1, place)
    before = place - (ordered > drawn).sum(dim=-1, keepdim=True)
    alike = (logits == drawn).cumsum(dim=-1)
    return (alike <= before).sum(dim=-1).clamp_(max=logits.shape[-1] - 1)


def _descending(logits: torch.Tensor) -> torch.Tensor:
    """Sort the values alone: which token a value is of need be known for the drawn one only.

    On a CPU numpy does it with vector instructions, in a thirtieth of torch's time.
    """
    if logits.device.type == "cpu":
        return torch.from_numpy(np.sort(-logits.numpy(), axis=-1)).neg_()
    return torch.sort(logits, dim=-1, descending=True).values
