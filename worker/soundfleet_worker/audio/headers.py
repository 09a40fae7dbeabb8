"""What containers say about their own length, where FFmpeg guesses, clips or keeps silent."""

from __future__ import annotations

import os
from collections.abc import Iterator

OGG_PAGE_BYTES = 27 + 255 + 255 * 255
"""The longest page."""
MP4_BOXES = 10_000
"""That are looked at; a fragment of a second has two."""
_UNKNOWN_SIZE = 0x7FFF_F000
"""Programs that write a WAV into a pipe put 2^31 or 2^32, less a little, where the size belongs."""


def wav_stated_sec(descriptor: int, file_bytes: int) -> float | None:
    """Return the length that a RIFF file's data chunk claims, even past the file's end; None when it claims none."""
    bytes_per_sec = 0
    for name, offset, size in _chunks(descriptor, file_bytes, (b"RIFF",)):  # RF64 keeps its sizes elsewhere
        if name == b"fmt ":
            form = os.pread(descriptor, 16, offset)
            bytes_per_sec = int.from_bytes(form[4:8], "little") * int.from_bytes(form[12:14], "little")
        if name == b"data":
            return size / bytes_per_sec if bytes_per_sec and 0 < size < _UNKNOWN_SIZE else None
    return None


def wav_pads_integers(descriptor: int, file_bytes: int) -> bool:
    """Say whether a WAV keeps integers of 24 bits in 32, which FFmpeg takes for floats of an old program."""
    for name, offset, _size in _chunks(descriptor, file_bytes, (b"RIFF", b"RF64")):
        if name == b"fmt ":
            form = os.pread(descriptor, 26, offset)
            extensible, container = form[:2] == b"\xfe\xff", int.from_bytes(form[14:16], "little")
            return extensible and container == 32 and form[24:26] == b"\x01\x00"  # the sub-format: PCM
    return False


def _chunks(descriptor: int, file_bytes: int, kinds: tuple[bytes, ...]) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk, where its body begins, and the size that it claims."""
    if os.pread(descriptor, 4, 0) not in kinds:
        return
    offset = 12
    while offset + 8 <= file_bytes:
        head = os.pread(descriptor, 8, offset)
        size = int.from_bytes(head[4:], "little")
        yield head[:4], offset + 8, size
        offset += 8 + size + size % 2


def ogg_is_cut_off(descriptor: int, file_bytes: int) -> bool:
    """Say whether the last page of an ogg file is longer than what is left of the file."""
    tail = os.pread(descriptor, OGG_PAGE_BYTES, max(0, file_bytes - OGG_PAGE_BYTES))
    start = tail.rfind(b"OggS\x00")
    if start < 0:
        return False
    page = tail[start:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def mp4_is_cut_off(descriptor: int, file_bytes: int) -> bool:
    """Say whether the last box of a fragmented MP4 is longer than what is left of the file.

    Its index states no length: without this, all that follows the cut would be missing unnoticed.
    """
    offset, fragmented = 0, False
    for _ in range(MP4_BOXES):
        head = os.pread(descriptor, 16, offset)
        if not head:
            return False
        size = int.from_bytes(head[:4], "big")
        fragmented = fragmented or head[4:8] == b"moof"
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size == 0:  # up to the end
            return False
        if size < 8 or len(head) < 8 or offset + size > file_bytes:
            return fragmented
        offset += size
    return False
