"""When songs will end: their launches played through in advance, in the order in which they will be made."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

MOST_LAUNCHES = 128
"""That are played through; where more are left, each stands for several."""


@dataclass(slots=True)
class Leg:
    """Steps of one kind that are left of a song."""

    group: Hashable
    """Songs with the same one share launches."""
    launch_sec: float
    places: int
    """Steps that a launch makes."""
    several: bool
    """Whether one song may take several places of a launch."""
    left: int


@dataclass(slots=True)
class Rest:
    """What is left of one song, and since which launch it has waited."""

    legs: list[Leg]
    served: int
    ends_sec: float = 0.0
    """From now; what ``foretell`` finds."""


def foretell(rests: Sequence[Rest]) -> None:
    """Find when each of the songs ends, if none joins them; groups, and the songs of one, go in turn."""
    stride = 1 + sum(leg.left for rest in rests for leg in rest.legs) // MOST_LAUNCHES
    going, now = [rest for rest in rests if rest.legs], 0.0
    launch = max((rest.served for rest in rests), default=0)
    while going:
        waiting = sorted(going, key=lambda rest: rest.served)  # stable: equals in the order given
        leg = waiting[0].legs[0]
        launch += 1
        made = _take([rest for rest in waiting if rest.legs[0].group == leg.group], leg, stride, launch)
        now += leg.launch_sec * made
        for rest in going:
            if rest.legs[0].left == 0:
                rest.legs.pop(0)
                rest.ends_sec = now
        going = [rest for rest in going if rest.legs]


def _take(together: Sequence[Rest], leg: Leg, stride: int, launch: int) -> int:
    """Make ``stride`` launches, or as many as there is work for; returns how many."""
    if not leg.several:
        together = together[: leg.places]
        for rest in together:
            rest.legs[0].left -= min(stride, rest.legs[0].left)
            rest.served = launch
        return stride
    room = stride * leg.places
    while room and any(rest.legs[0].left for rest in together):
        for rest in together:
            if room and rest.legs[0].left:
                rest.legs[0].left -= 1
                rest.served = launch
                room -= 1
    return stride - room // leg.places
