"""How much work lies between two chances to cancel."""

from __future__ import annotations

from typing import NamedTuple


class Pace(NamedTuple):
    """How much is done between two chances to cancel."""

    span: int
    """Tokens of every slot."""
    fill: int
    """Positions of one piece, of those that are filled before its tokens."""
    others: int
    """How often a piece is filled or sounded beside a span: at least as much as full slots draw in one."""


PACES = {"cpu": Pace(span=8, fill=64, others=2), "cuda": Pace(span=64, fill=2048, others=8)}
