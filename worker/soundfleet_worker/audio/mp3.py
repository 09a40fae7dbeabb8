"""What an mp3's first frame states of the whole, read here because FFmpeg forgets it when much follows the music.

FFmpeg drops the frame count of a Xing header when the file is much longer than the header says (a cover in an APEv2
tag, Lyrics3, zeros), guesses the length from the bit rate, and leaves the encoder's padding on.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import NamedTuple

HEAD_BYTES = 4_096
"""What is read behind the tags to find the first frame."""
_LONGEST_FRAME = 2_881
_WINDOW = 1 << 20
_MAX_CANDIDATES = 100_000
"""Of a tail that is searched for frames. Random bytes have one in 11 kB; a tail with more is left to FFmpeg."""
_CHAIN = 3
"""Frame headers, each where the one before ends, that are no coincidence."""

_KBPS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = (44_100, 48_000, 32_000)
_HALVINGS = {3: 0, 2: 1, 0: 2}
"""By the version's two bits: MPEG-1, 2 and 2.5 halve the sample rates."""
_HEADER = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
_GAPLESS = frozenset({b"LAME", b"Lavf", b"Lavc"})
"""Encoders that tell their delay and padding behind the Xing header; FFmpeg believes the same."""


class Frame(NamedTuple):
    """A layer III frame, by its header."""

    sample_rate: int
    samples: int
    size: int
    """Bytes, header included."""
    side_bytes: int
    """Of the side information, behind which a Xing header lies."""


@dataclass(frozen=True)
class Stated:
    """What an mp3 states of itself."""

    sample_rate: int
    samples: int
    """Per channel, without the encoder's delay and padding where it tells them."""
    end: int
    """Offset of the first byte behind the music; the file's size where that is not certain."""
    gapless: bool
    """Delay and padding are told and no other music follows: ``samples`` is exact."""


class _Tag(NamedTuple):
    frames: int
    size: int
    """Bytes of music, this frame included; 0 when it does not say."""
    padding: int | None = None
    """Samples of silence at both ends."""


def frame_at(data: bytes, offset: int = 0) -> Frame | None:
    """Read the frame header at ``offset``; None when there is none, or one of no fixed bit rate."""
    if len(data) < offset + 4:
        return None
    sync, version, rates, mode = data[offset : offset + 4]
    halvings = _HALVINGS.get(version >> 3 & 3)
    if sync != 0xFF or version & 0xE6 != 0xE2 or halvings is None:
        return None
    if rates & 0xF0 in {0x00, 0xF0} or rates & 0x0C == 0x0C:
        return None
    rate = _RATES[rates >> 2 & 3] >> halvings
    kbps = (_KBPS_2 if halvings else _KBPS_1)[(rates >> 4) - 1]
    samples = 576 if halvings else 1_152
    mono = mode & 0xC0 == 0xC0
    side_bytes = (9 if mono else 17) if halvings else (17 if mono else 32)
    return Frame(rate, samples, samples // 8 * 1_000 * kbps // rate + (rates >> 1 & 1), side_bytes)


def stated_by_mp3(descriptor: int, file_bytes: int) -> Stated | None:
    """Read an mp3's Xing, Info or VBRI header; None for a file that has none, or one without a count of frames."""
    offset = 0
    while skip := _id3_bytes(os.pread(descriptor, 10, offset)):
        offset += skip
    head = os.pread(descriptor, HEAD_BYTES, offset)
    begin, frame = next(((i, found) for i in range(len(head)) if (found := frame_at(head, i))), (0, None))
    tag = None if frame is None else _xing(head[begin:], frame) or _vbri(head[begin:])
    if frame is None or tag is None or tag.frames == 0:
        return None
    end = offset + begin + tag.size
    whole = tag.size > 0 and not _goes_on(descriptor, end, file_bytes)
    samples = frame.samples * tag.frames - (tag.padding or 0)
    return Stated(
        sample_rate=frame.sample_rate,
        samples=max(samples, 0),
        end=min(end, file_bytes) if whole else file_bytes,
        gapless=whole and tag.padding is not None and samples > 0,
    )


def _id3_bytes(start: bytes) -> int:
    """Return the length of the ID3v2 tag that begins with these 10 bytes, or 0."""
    if len(start) < 10 or start[:3] != b"ID3":
        return 0
    size = 0
    for byte in start[6:10]:
        size = size << 7 | byte & 0x7F
    footer = 10 if start[5] & 0x10 else 0
    return 10 + size + footer


def _xing(head: bytes, frame: Frame) -> _Tag | None:
    tag = head[4 + frame.side_bytes :]
    if tag[:4] not in {b"Xing", b"Info"}:
        return None
    flags = int.from_bytes(tag[4:8], "big")
    fields, at = [0, 0], 8
    for bit, length in ((0, 4), (1, 4), (2, 100), (3, 4)):  # frames, bytes, table of contents, quality
        if flags >> bit & 1:
            if bit < 2:
                fields[bit] = int.from_bytes(tag[at : at + 4], "big")
            at += length
    told = int.from_bytes(tag[at + 21 : at + 24], "big")
    gapless = tag[at : at + 4] in _GAPLESS
    return _Tag(fields[0], fields[1], (told >> 12) + (told & 0xFFF) if gapless else None)


def _vbri(head: bytes) -> _Tag | None:
    tag = head[4 + 32 :][:18]
    if tag[:4] != b"VBRI":
        return None
    return _Tag(frames=int.from_bytes(tag[14:18], "big"), size=int.from_bytes(tag[10:14], "big"))


def _goes_on(descriptor: int, end: int, file_bytes: int) -> bool:
    """Say whether frames follow ``end``: another mp3 was appended, or the stated size is not true."""
    if frame_at(os.pread(descriptor, 4, end)):
        return True
    candidates = 0
    for start in range(end, file_bytes, _WINDOW):
        window = os.pread(descriptor, _WINDOW + _CHAIN * _LONGEST_FRAME, start)
        for match in _HEADER.finditer(window, 0, _WINDOW + 1):
            candidates += 1
            if candidates > _MAX_CANDIDATES or _is_chain(window, match.start()):
                return True
    return False


def _is_chain(data: bytes, offset: int) -> bool:
    """Whether frames of one sample rate follow each other from ``offset`` on."""
    rates = set()
    for _ in range(_CHAIN):
        frame = frame_at(data, offset)
        if frame is None:
            return False
        rates.add(frame.sample_rate)
        offset += frame.size
    return len(rates) == 1
