"""A look ahead: which piece will be in which slot when, and so when each will be complete.

Tokens take longer the more is attended to, a window's end longer than its beginning, and company that leaves makes the
others faster. So the rest of all pieces is played through, in strides, at the speeds that were measured. Pieces that
nobody has begun yet are not foreseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .pace import Pace
from .piece import Phase, Piece
from .speed import Speeds

STRIDE = 128
"""Tokens."""


@dataclass(slots=True, eq=False)
class _Ahead:
    """What is left of a piece."""

    piece: Piece
    hears: int
    """Steps of the codec, of a source."""
    fills: int
    """Positions of this window."""
    windows: list[tuple[int, int]]
    """This one and those after it: its position, and its last one."""
    share: float
    """1, or a half for a piece without guidance, which reads half."""
    prefix: int
    sounds: float
    """Steps of the codec."""

    @classmethod
    def of(cls, piece: Piece) -> _Ahead:
        seat = piece.seat
        windows = piece.windows_left
        if seat is not None and windows and piece.phase in (Phase.fill, Phase.draw):
            windows[0] = (seat.position, seat.end)
        prefix = seat.prefix if seat is not None else 0
        return cls(
            piece,
            hears=piece.hears_left,
            fills=prefix + seat.position - piece.filled if seat is not None and piece.phase is Phase.fill else 0,
            windows=windows,
            share=1.0 if piece.given.sampling.guided else 0.5,
            prefix=prefix,
            sounds=piece.sounds_left,
        )

    def left(self) -> int:
        """Tokens of this window."""
        position, end = self.windows[0]
        return end - position


def foretell(pieces: Sequence[Piece], speeds: Speeds, slots: int, pace: Pace) -> None:
    """Set what is left of every piece, in seconds; nothing while there is no speed to go by."""
    if speeds.token.sec(0.0) is None:
        return
    ahead = [_Ahead.of(piece) for piece in pieces if not piece.done]
    seated = [one for one in ahead if one.piece.seat is not None]
    waiting = [one for one in ahead if one.piece.seat is None and one.windows]
    drawn = [one for one in ahead if not one.windows]
    now = 0.0
    while seated or waiting or drawn:
        now += _sound(drawn, seated, now, speeds, pace)
        while waiting and len(seated) < slots:
            now += waiting[0].hears * (speeds.hear.sec or speeds.sound.sec or 0.0)
            seated.append(waiting.pop(0))
        if not seated:
            return
        now += _stride(seated, speeds)
        drawn = [one for one in seated if not one.windows]
        seated = [one for one in seated if one.windows]


def _stride(seated: Sequence[_Ahead], speeds: Speeds) -> float:
    """Move all that are seated on; return how long it takes."""
    tokens = min((STRIDE, *(one.left() for one in seated)))
    sec = tokens * _token_sec(seated, tokens, speeds)
    for one in seated:
        sec += one.fills * (speeds.fill.sec or 0.0)
        one.fills = 0
        sounded = min(one.sounds, tokens / one.piece.tokens_per_sound)
        one.sounds -= sounded
        sec += sounded * (speeds.sound.sec or 0.0)
        position, end = one.windows[0]
        one.windows[0] = (position + tokens, end)
        if position + tokens >= end:
            one.windows.pop(0)
            one.fills = one.prefix + one.windows[0][0] if one.windows else 0
    return sec


def _token_sec(seated: Sequence[_Ahead], tokens: int, speeds: Speeds) -> float:
    """Return how long each of the next tokens takes."""
    positions = sum((one.prefix + one.windows[0][0] + tokens / 2) * one.share for one in seated)
    return speeds.token.sec(positions) or 0.0


def _sound(drawn: Sequence[_Ahead], seated: Sequence[_Ahead], now: float, speeds: Speeds, pace: Pace) -> float:
    """Let the rest of those that have no token left become audio, in turns, beside what others draw."""
    sounds = sum(one.sounds for one in drawn)
    sec = sounds * (speeds.sound.sec or 0.0)
    spans = sounds / pace.others if seated else 0.0
    for one in drawn:
        one.piece.left_sec = now + sec + spans * pace.span * _token_sec(seated, 0, speeds)
    return sec
