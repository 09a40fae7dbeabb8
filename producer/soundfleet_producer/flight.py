"""Requests that are submitted together: what became of each, and the exchanges that carry them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from soundfleet_schemas import Keys, Limits, SoundfleetError

from .drafts import Checked
from .queue import verbs
from .queue.exchange import Exchange
from .queue.verbs import Draft, Submitted


class Flight:
    """A place for each request, in order: an error, a draft, or what still waits for its upload."""

    def __init__(self, keys: Keys, limits: Limits) -> None:
        self.places: list[Draft | Checked | SoundfleetError] = []
        self._keys = keys
        self._limits = limits
        self._exchanges: list[Exchange[Any]] | None = None

    def exchanges(self) -> list[Exchange[Any]]:
        """One exchange per batch of drafts; built once, when every upload is done."""
        if self._exchanges is None:
            groups = self._groups()
            self._exchanges = [verbs.submit_many(self._keys, group, self._limits) for group in groups]
        return self._exchanges

    def answers(self, replies: Sequence[Any]) -> list[Submitted | SoundfleetError]:
        """The answer to each request, given those of the exchanges; an error of an exchange is that of each of its."""
        each = self._each(replies)
        return [place if isinstance(place, SoundfleetError) else next(each) for place in self.places]

    def _groups(self) -> list[list[Draft]]:
        drafts = [place for place in self.places if isinstance(place, Draft)]
        return [drafts[start : start + verbs.BATCH] for start in range(0, len(drafts), verbs.BATCH)]

    def _each(self, replies: Sequence[Any]) -> Iterator[Submitted | SoundfleetError]:
        for group, reply in zip(self._groups(), replies, strict=True):
            yield from [reply] * len(group) if isinstance(reply, SoundfleetError) else reply
