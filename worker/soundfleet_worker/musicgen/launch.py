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
from .threads import Threads

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
    """On a CPU: every token is a launch, and slots are read exactly as far as they go.

    One thread does what is small; matrices and long attention are shared out.
    """

    def __init__(self, network: Network, slots: Slots) -> None:
        self._network, self._slots = network, slots
        self._alone, self._all = Threads(1), Threads.all()

    def span(self, seats: Sequence[Seat], count: int) -> None:
        """Decode up to ``count`` tokens in each of the seats."""
        with self._alone:
            for _ in range(count):
                going = [seat for seat in seats if seat.left]
                if not going:
                    return
                self._token(going)
                for seat in going:
                    seat.position += 1

    def _token(self, going: list[Seat]) -> None:
        slots = self._slots
        slots.seat(going)
        attention = ExactAttention(slots.cache, [seat.place for seat in going], self._all)
        advance(self._network, slots, attention, torch.tensor([seat.slot for seat in going]))


class FixedLaunch:
    """On a GPU: every token is the same graph, which reads from the slots who stands where."""

    def __init__(self, network: Network, slots: Slots) -> None:
        self._network, self._slots = network, slots
        self._graphs: dict[tuple[int, int], Callable[[], Any]] = {}
        self._held: tuple[torch.Tensor, int] | None = None
        self._stream: Any = None
        self._pool: Any = None

    def span(self, seats: Sequence[Seat], count: int) -> None:
        """Decode up to ``count`` tokens in each of the seats; one wait for the device at the end."""
        slots = self._slots
        going = [seat for seat in seats if seat.left]
        count = min(count, max((seat.left for seat in going), default=0))
        if not count:
            return
        slots.seat(going)
        furthest = max(seat.prefix + seat.position + min(count, seat.left) for seat in going)
        replay = self._graph(self._reach(furthest), self._taken(max(seat.slot for seat in going) + 1))
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

    def _taken(self, slots: int) -> int:
        """How many slots are attended in, a power of two: matrices have all rows, but free caches are not read."""
        return min(1 << (slots - 1).bit_length(), self._slots.count)

    def _graph(self, reach: int, taken: int) -> Callable[[], Any]:
        """Return what decodes one token; captured when first needed, and again when a tensor of the slots has moved."""
        slots = self._slots
        if self._held is None or self._held[0] is not slots.tokens or self._held[1] != slots.cache.moves:
            self._graphs, self._pool, self._held = {}, None, (slots.tokens, slots.cache.moves)
        key = (reach, taken)
        if key not in self._graphs:
            graph = self._capture if slots.device.type == "cuda" else self._plain
            self._graphs[key] = graph(reach, taken)
        return self._graphs[key]

    def _plain(self, reach: int, taken: int) -> Callable[[], Any]:
        return lambda: self._token(reach, taken)

    def _token(self, reach: int, taken: int) -> None:
        slots = self._slots
        attention = FixedAttention(slots.cache, reach, taken, slots.position + slots.prefix, slots.text)
        advance(self._network, slots, attention, torch.arange(slots.count, device=slots.device))

    def _capture(self, reach: int, taken: int) -> Callable[[], Any]:
        """Capture a graph. The runs before it decode real tokens, which capturing and replaying leave as they are.

        Graphs never run at once and leave nothing in their memory, so that all share one pool.
        """
        from torch.nn.attention import SDPBackend, sdpa_kernel

        device, saved = self._slots.device, self._slots.position.clone()
        with torch.cuda.device(device), sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            self._stream = self._stream or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self._stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(self._stream):
                for _ in range(2):
                    self._token(reach, taken)
                    self._slots.position.copy_(saved)
            torch.cuda.current_stream(device).wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            how = {"pool": self._pool, "stream": self._stream, "capture_error_mode": "thread_local"}
            with torch.cuda.graph(graph, **how):
                self._token(reach, taken)
        return graph.replay
