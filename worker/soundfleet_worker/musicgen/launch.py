"""Spans of tokens for all slots together: token by token on a CPU, as a replayed CUDA graph on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .attention import ExactAttention, FixedAttention
from .cache import GUIDED
from .network import Attention, Network
from .sampling import choose, guide
from .slots import Seat, Slots

REACHES = (256, 512, 768, 1024)
"""Positions that a graph attends to; the last graph attends to all."""


def advance(network: Network, slots: Slots, attention: Attention, rows: torch.Tensor) -> None:
    """Decode one token in every slot, and keep it in the slots ``rows``; what is known already stays."""
    here = slots.position[:, None, None].expand(-1, slots.pattern.codebooks, 1)
    tokens = slots.tokens.gather(2, here)[..., 0]
    states = network.embed(tokens, slots.position + slots.prefix).repeat(GUIDED, 1)
    logits = network.logits(network.forward(states, attention))
    logits = logits.view(GUIDED, slots.count, *logits.shape[1:])[:, rows]
    knobs = slots.knobs.of(rows)
    scores = guide(logits, knobs.guidance)
    place = torch.minimum(slots.position + 1, slots.end)[rows]
    drawn = choose(scores, slots.uniforms[rows, :, place], knobs)
    known = slots.tokens[rows, :, place]
    slots.tokens[rows, :, place] = torch.where(known < 0, drawn, known)
    slots.broken[rows] |= ~torch.isfinite(scores).flatten(1).all(dim=1)
    slots.position[rows] = place


class ExactLaunch:
    """On a CPU: every token is a launch, and slots are read exactly as far as they go."""

    def __init__(self, network: Network, slots: Slots) -> None:
        self._network, self._slots = network, slots

    def span(self, seats: Sequence[Seat], count: int) -> None:
        """Decode up to ``count`` tokens in each of the seats."""
        slots = self._slots
        for _ in range(count):
            going = [seat for seat in seats if seat.left]
            if not going:
                return
            slots.seat(going)
            attention = ExactAttention(slots.cache, [seat.place for seat in going], slots.device)
            advance(self._network, slots, attention, torch.tensor([seat.slot for seat in going]))
            for seat in going:
                seat.position += 1


class FixedLaunch:
    """On a GPU: every token is the same graph, which reads from the slots who stands where."""

    def __init__(self, network: Network, slots: Slots) -> None:
        self._network, self._slots = network, slots
        self._graphs: dict[tuple[int, int], Callable[[], Any]] = {}
        self._held: torch.Tensor | None = None

    def span(self, seats: Sequence[Seat], count: int) -> None:
        """Decode up to ``count`` tokens in each of the seats; one wait for the device at the end."""
        slots = self._slots
        going = [seat for seat in seats if seat.left]
        count = min(count, max((seat.left for seat in going), default=0))
        if not count:
            return
        slots.seat(going)
        furthest = max(seat.prefix + seat.position + min(count, seat.left) for seat in going)
        replay = self._graph(self._reach(furthest))
        for _ in range(count):
            replay()
        if slots.device.type == "cuda":
            torch.cuda.synchronize(slots.device)
        for seat in going:
            seat.position += min(count, seat.left)

    def _reach(self, furthest: int) -> int:
        """The smallest graph's that will do; on the same kernels, masked positions add exact zeros."""
        most = self._slots.cache.shape.positions
        return min(reach for reach in (*REACHES, most) if reach >= furthest or reach == most)

    def _graph(self, reach: int) -> Callable[[], Any]:
        """Return what decodes one token; captured when first needed, and again when the slots have moved."""
        slots = self._slots
        if self._held is not slots.tokens:
            self._graphs, self._held = {}, slots.tokens
        key = (slots.count, reach)
        if key not in self._graphs:
            self._graphs[key] = self._capture(reach) if slots.device.type == "cuda" else lambda: self._token(reach)
        return self._graphs[key]

    def _token(self, reach: int) -> None:
        slots = self._slots
        attention = FixedAttention(slots.cache, reach, slots.position + slots.prefix, slots.text)
        advance(self._network, slots, attention, torch.arange(slots.count, device=slots.device))

    def _capture(self, reach: int) -> Callable[[], Any]:
        """Capture a graph. The runs before it decode real tokens, which capturing and replaying leave as they are."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        saved = self._slots.position.clone()
        with torch.cuda.device(self._slots.device), sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
            stream: torch.cuda.Stream = torch.cuda.Stream(self._slots.device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream(self._slots.device))
            with torch.cuda.stream(stream):
                for _ in range(2):
                    self._token(reach)
                    self._slots.position.copy_(saved)
            torch.cuda.current_stream(self._slots.device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._token(reach)
        self._slots.position.copy_(saved)
        return graph.replay
