"""What containers say about their own length, where FFmpeg guesses, clips or keeps silent."""

from __future__ import annotations

import os

OGG_PAGE_BYTES = 27 + 255 + 255 * 255
"""The longest page."""
_UNKNOWN_SIZE = 0x7FFF_F000
"""Programs that write a WAV into a pipe put 2^31 or 2^32, less a little, where the size belongs."""


def wav_stated_sec(descriptor: int, file_bytes: int) -> float | None:
    """Return the length that a RIFF file's data chunk claims, even past the file's end; None when it claims none."""
    start = os.pread(descriptor, 12, 0)
    if start[:4] != b"RIFF":  # RF64 keeps its sizes elsewhere
        return None
    offset, bytes_per_sec = 12, 0
    while offset + 8 <= file_bytes:
        chunk = os.pread(descriptor, 8, offset)
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"fmt ":
            form = os.pread(descriptor, 16, offset + 8)
            bytes_per_sec = int.from_bytes(form[4:8], "little") * int.from_bytes(form[12:14], "little")
        if name == b"data":
            return size / bytes_per_sec if bytes_per_sec and 0 < size < _UNKNOWN_SIZE else None
        offset += 8 + size + size % 2
    return None


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
