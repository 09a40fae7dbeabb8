"""One pass of the decoder over rows of hidden states; who attends to what is the caller's business."""

from __future__ import annotations

import math
from typing import Protocol

import torch

from .weights import Layer, Weights


class Attention(Protocol):
    """How the rows of a pass attend, and where their keys and values go."""

    def own(self, layer: int, mixed: torch.Tensor) -> torch.Tensor:
        """Store keys and values, and attend to all that was decoded: (rows, width).

        ``mixed`` has queries, keys and values side by side, (rows, 3 * width).
        """
        ...

    def text(self, layer: int, query: torch.Tensor) -> torch.Tensor:
        """Attend to the prompt: (guided rows, width). Rows without the prompt get nothing and are not asked."""
        ...

    @property
    def guided_rows(self) -> int:
        """How many rows, the first ones, have the prompt."""
        ...


class Network:
    """The decoder as pure functions of hidden states."""

    def __init__(self, weights: Weights, positions: int) -> None:
        self.weights = weights
        self._positions = _sinusoids(positions, weights.width).to(weights.device)
        self._books = torch.arange(weights.codebooks, device=weights.device)

    def embed(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return (n, width) of tokens (n, codebooks) at positions (n)."""
        return self.weights.embeddings[self._books, tokens].sum(dim=1) + self._positions[positions]

    def place(self, states: torch.Tensor, start: int) -> torch.Tensor:
        """Add the positions from ``start`` on to states (..., n, width)."""
        return states + self._positions[start : start + states.shape[-2]]

    def forward(self, rows: torch.Tensor, attention: Attention) -> torch.Tensor:
        """Send rows (n, width) through all layers."""
        for index, layer in enumerate(self.weights.layers):
            rows = self._layer(index, layer, rows, attention)
        return rows

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (n, codebooks, vocabulary), float32."""
        scores = self.weights.heads(self.weights.norm(rows))
        return scores.reshape(rows.shape[0], self.weights.codebooks, self.weights.vocabulary)

    def text_keys_values(self, states: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per layer the keys and values of an encoded prompt, (heads, tokens, head width)."""
        heads, pairs = self.weights.heads_per_layer, []
        for layer in self.weights.layers:
            if layer.cross is not None:
                key, value = layer.cross.key_value(states.to(self.weights.dtype)).chunk(2, dim=-1)
                key, value = (part.reshape(len(states), heads, -1).transpose(0, 1) for part in (key, value))
                pairs.append((key, value))
        return pairs

    def _layer(self, index: int, layer: Layer, rows: torch.Tensor, attention: Attention) -> torch.Tensor:
        kind = self.weights.dtype
        rows = rows + layer.out(attention.own(index, layer.query_key_value(layer.norm(rows).to(kind))))
        if layer.cross is not None:
            heard = rows[: attention.guided_rows]
            answer = attention.text(index, layer.cross.query(layer.cross.norm(heard).to(kind)))
            rows[: attention.guided_rows] += layer.cross.out(answer)
        return rows + layer.down(layer.up(layer.last_norm(rows).to(kind)))


def _sinusoids(positions: int, width: int) -> torch.Tensor:
    """The position embeddings, (positions, width): cosines, then sines."""
    half = width // 2
    rates = torch.exp(torch.arange(half).float() * -(math.log(10_000) / (half - 1)))
    angles = torch.arange(positions).float()[:, None] * rates
    table = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
    return torch.nn.functional.pad(table, (0, width % 2))
