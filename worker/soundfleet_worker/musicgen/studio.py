"""All pieces of one model: hears, seats, fills, draws and sounds them, a bounded piece of work at a time."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul
from time import perf_counter

import torch

from ..backends.scratch import reserve
from .attention import FillAttention
from .codec import Codec
from .conditions import MelodyEncoder
from .forecast import foretell
from .launch import ExactLaunch, FixedLaunch
from .network import Network
from .pace import PACES, Pace
from .piece import Phase, Piece
from .slots import Seat, Slots
from .speed import Speeds

TRACK = "track"


class Studio:
    """The one place where pieces move on."""

    def __init__(
        self, network: Network, slots: Slots, codec: Codec, melody: MelodyEncoder | None, pace: Pace | None = None
    ) -> None:
        self.slots, self.pattern, self.codec = slots, slots.pattern, codec
        self._network, self._melody = network, melody
        self.pace = pace or PACES[slots.device.type]
        self._launch = (ExactLaunch if slots.device.type == "cpu" else FixedLaunch)(network, slots)
        self._turn = 0
        self._speeds = Speeds(slots.nbytes_of_a_position / network.weights.nbytes, codec.frame_rate)

    def step(self, pieces: Sequence[Piece]) -> None:
        """Move the pieces on: those in slots by a span, and of the others the ones that have waited longest."""
        for piece in pieces:
            if piece.phase is Phase.wait and self.slots.free:
                self._seat(piece)
            if piece.phase is Phase.open:
                self._open(piece)
        for _ in range(self.pace.others):
            if not self._aside(pieces):
                break
        self._draw([piece for piece in pieces if piece.phase is Phase.draw])
        foretell(pieces, self._speeds, self.slots.count, self.pace)

    def _aside(self, pieces: Sequence[Piece]) -> bool:
        """Fill or sound a part of the piece that has waited longest for it; returns whether there was one."""
        waiting = [piece for piece in pieces if piece.phase in (Phase.hear, Phase.fill) or piece.sounds]
        if not waiting:
            return False
        piece = min(waiting, key=lambda one: one.served)
        began, filled = perf_counter(), piece.filled
        match piece.phase:
            case Phase.hear:
                self._hear(piece)
                self._speeds.hear.saw(perf_counter() - began)
            case Phase.fill:
                self._fill(piece)
                self._speeds.fill.saw((perf_counter() - began) / (piece.filled - filled))
            case _:
                self._sound(piece)
                self._speeds.sound.saw(perf_counter() - began)
        self._turn += 1
        piece.served = self._turn
        return True

    def release(self, piece: Piece) -> None:
        """Take a piece out, wherever it is."""
        piece.phase, piece.decoding = Phase.done, None
        if piece.seat is not None:
            seat, piece.seat = piece.seat, None
            self.slots.leave(seat.slot)

    def _hear(self, piece: Piece) -> None:
        """Encode the next part of the source."""
        assert piece.encoding is not None, "a piece with a source has its encoding"
        codes = piece.encoding.step()
        piece.current_step += 1
        if codes is not None:
            piece.heard(codes)

    def _seat(self, piece: Piece) -> None:
        """Give a piece a slot, and tell the slot of the prompt."""
        slot = self.slots.free[0]
        states = piece.given.prompt.states
        if self._melody is None:
            self.slots.tell_text(slot, self._network.text_keys_values(states))
        guided = piece.given.sampling.guided
        piece.seat = Seat(slot, position=0, end=0, prefix=0, text=len(states), guided=guided)
        piece.phase = Phase.open
        self.slots.free.remove(slot)

    def _open(self, piece: Piece) -> None:
        """Lay out the next window."""
        if piece.decoding is None:
            samples = piece.given.frames * self.codec.hop
            piece.audio = reserve(piece.job.scratch / f"{TRACK}.npy", self.codec.channels, samples)
            piece.decoding = self.codec.decoding(piece.codes, piece.audio)
        seat, window = _seat_of(piece), piece.window
        piece.prefix = self._prefix(piece)
        seat.prefix = 0 if piece.prefix is None else piece.prefix.shape[1]
        seat.position, seat.end = window.known, self.pattern.length(window.frames) - 1
        self.slots.set_up(seat, piece.laid(), piece.draws, piece.given.sampling)
        piece.filled = 0
        piece.phase = Phase.fill if seat.prefix + seat.position else Phase.draw

    def _prefix(self, piece: Piece) -> torch.Tensor | None:
        if self._melody is None:
            return None
        given, start_sec = piece.given, piece.window.start / self.codec.frame_rate
        prefix = self._melody.prefix(given.prompt, given.reference, start_sec)
        return prefix if given.sampling.guided else prefix[:1]

    def _fill(self, piece: Piece) -> None:
        """Send the next positions before the first open token through the decoder."""
        seat, slots = _seat_of(piece), self.slots
        start, goal = piece.filled, seat.prefix + seat.position
        end = min(start + self.pace.fill, goal)
        parts = []
        halves = 2 if seat.guided else 1
        if piece.prefix is not None and start < seat.prefix:
            told = self._network.place(piece.prefix[:, start : min(end, seat.prefix)], start)
            parts.append(told)
        if end > seat.prefix:
            places = torch.arange(max(start, seat.prefix), end, device=slots.device)
            tokens = slots.tokens[seat.slot][:, places - seat.prefix].T
            parts.append(self._network.embed(tokens, places).expand(halves, -1, -1))
        rows = torch.cat(parts, dim=1).flatten(0, 1)
        place = seat.place._replace(position=start)
        self._network.forward(rows, FillAttention(slots.cache, place, end - start))
        piece.filled = end
        if end == goal:
            piece.phase = Phase.draw

    def _draw(self, pieces: Sequence[Piece]) -> None:
        """Draw a span of tokens for all at once."""
        if not pieces:
            return
        seats = [_seat_of(piece) for piece in pieces]
        before, began = [seat.position for seat in seats], perf_counter()
        try:
            self._launch.span(seats, self.pace.span)
        finally:
            for piece, seat, position in zip(pieces, seats, before, strict=True):
                piece.current_step += seat.position - position
        self._time(seats, before, perf_counter() - began)
        broken, rows = self.slots.broken.tolist(), self.slots.tokens.cpu()
        for piece, seat in zip(pieces, seats, strict=True):
            if broken[seat.slot]:
                piece.fail()
                continue
            piece.take(rows[seat.slot], seat.position)
            if not seat.left:
                self._close(piece, seat)

    def _time(self, seats: Sequence[Seat], before: Sequence[int], sec: float) -> None:
        """Learn from a span how long tokens take."""
        moved = [seat.position - position for seat, position in zip(seats, before, strict=True)]
        halves = [1.0 if seat.guided else 0.5 for seat in seats]
        places = [seat.prefix + seat.position - tokens / 2 for seat, tokens in zip(seats, moved, strict=True)]
        if tokens := max(moved):
            self._speeds.token.drew(sum(map(mul, places, halves)), sec / tokens)

    def _close(self, piece: Piece, seat: Seat) -> None:
        """A window is complete: the next one, or what is left of the audio."""
        if piece.next_window():
            piece.phase = Phase.open
            return
        piece.seat = None
        self.slots.leave(seat.slot)
        piece.begin_sound()

    def _sound(self, piece: Piece) -> None:
        """Make audio of the next frames that are complete."""
        assert piece.decoding is not None, "a piece that sounds is being decoded"
        piece.decoding.step()
        piece.current_step += 1
        if piece.decoding.done:
            piece.phase, piece.decoding = Phase.done, None


def _seat_of(piece: Piece) -> Seat:
    assert piece.seat is not None, "a piece that is filled or drawn has a seat"
    return piece.seat
