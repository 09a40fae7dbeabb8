"""Real songs that were damaged at places drawn from a seed: what becomes of each is no matter of chance."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.formats import SONGS


class Mutant(NamedTuple):
    """A real song that was damaged."""

    name: str
    data: bytes
    held: int
    """Samples of the song at its own rate."""
    rate: int
    whole: bool
    """Whether it must be as long as the song where it still plays; otherwise a part of it is a song, too."""


Damage = Callable[[bytearray, np.random.Generator], bytes]


def _cut(data: bytearray, chance: np.random.Generator) -> bytes:
    return bytes(data[: int(len(data) * chance.uniform(0.1, 0.9))])


def _flip(share: float) -> Damage:
    def flip(data: bytearray, chance: np.random.Generator) -> bytes:
        """Bytes behind the first third, where the music is."""
        array = np.frombuffer(data, np.uint8).copy()
        where = chance.integers(len(array) // 3, len(array), max(1, int(share * len(array))))
        array[where] ^= chance.integers(1, 256, len(where)).astype(np.uint8)
        return array.tobytes()

    return flip


def _hole(data: bytearray, chance: np.random.Generator) -> bytes:
    """A tenth of the file is missing in the middle."""
    at = int(len(data) * chance.uniform(0.4, 0.6))
    return bytes(data[:at] + data[at + len(data) // 10 :])


def _blank(data: bytearray, chance: np.random.Generator) -> bytes:
    """A tenth of the file is zeros: a download that was never finished."""
    at, size = int(len(data) * chance.uniform(0.4, 0.6)), len(data) // 10
    return bytes(data[:at]) + bytes(size) + bytes(data[at + size :])


def _headless(data: bytearray, chance: np.random.Generator) -> bytes:
    """The beginning is gone."""
    return bytes(data[int(chance.integers(20, 400)) :])


def _turned(data: bytearray, chance: np.random.Generator) -> bytes:  # noqa: ARG001 - as the others
    """The second half before the first."""
    return bytes(data[len(data) // 2 :] + data[: len(data) // 2])


def _backwards(data: bytearray, chance: np.random.Generator) -> bytes:  # noqa: ARG001 - as the others
    """The last byte first."""
    return bytes(reversed(data))


def _halved(data: bytearray, chance: np.random.Generator) -> bytes:  # noqa: ARG001 - as the others
    """The first half only."""
    return bytes(data[: len(data) // 2])


def _masked(data: bytearray, chance: np.random.Generator) -> bytes:
    """Every byte is another: as encrypted."""
    return (np.frombuffer(data, np.uint8) ^ chance.integers(1, 256, len(data)).astype(np.uint8)).tobytes()


DAMAGES: dict[str, Damage] = {
    "cut off": _cut,
    "cut off elsewhere": _cut,
    "with a hole": _hole,
    "blank in the middle": _blank,
    "headless": _headless,
    "turned round": _turned,
    "with a wrong byte in ten": _flip(0.1),
    "with many wrong bytes": _flip(0.05),
    "with some wrong bytes": _flip(0.003),
    "backwards": _backwards,
    "cut in half": _halved,
    "encrypted": _masked,
}
BASES = (
    "wav of 16 bits", "wav of floats", "flac of 16 bits", "alac of 16 bits", "mp3 of 192 kbit a second",
    "mp3 of a variable bit rate with a cover", "mp3 without a header of its own", "m4a, its index at the end",
    "m4a, its index at the start", "m4a in fragments", "aac in adts", "ogg vorbis", "opus in ogg", "opus in webm",
    "flac in matroska",
)  # fmt: skip
BARE = ("mp3 without a header of its own", "aac in adts")
"""Formats of which a part is a whole: where they end, nothing says that more was meant to come."""
BEHEADED = ("headless", "turned round")
"""Damage that leaves of an mp3 what any part of one is."""


def mutants(directory: Path) -> Iterator[Mutant]:
    """Damage every kind of song in every way."""
    for name in BASES:
        song = SONGS[name](directory)
        healthy = song.path.read_bytes()
        for number, (how, damage) in enumerate(DAMAGES.items()):
            data = damage(bytearray(healthy), np.random.default_rng([zlib.crc32(name.encode()), number]))
            whole = name not in BARE and not (how in BEHEADED and name.startswith("mp3"))
            yield Mutant(f"{name}, {how}", data, song.held, song.rate, whole)
