"""What containers say about their own length, where FFmpeg guesses, clips or keeps silent."""

from __future__ import annotations

import os

MP3_HEAD_BYTES = 4_096
"""What is read behind the tags to find the first frame."""
OGG_PAGE_BYTES = 27 + 255 + 255 * 255
"""The longest page."""
_UNKNOWN_SIZE = 0x7FFF_F000
"""Programs that write a WAV into a pipe put 2^31 or 2^32, less a little, where the size belongs."""


def mp3_states_length(descriptor: int) -> bool:
    """Say whether an mp3 begins with a Xing, Info or VBRI header that counts its frames."""
    offset = 0
    while skip := _tag_bytes(os.pread(descriptor, 10, offset)):
        offset += skip
    return _counts_frames(os.pread(descriptor, MP3_HEAD_BYTES, offset))


def _tag_bytes(start: bytes) -> int:
    """Return the length of the ID3v2 tag that begins with these 10 bytes, or 0."""
    if len(start) < 10 or start[:3] != b"ID3":
        return 0
    size = 0
    for byte in start[6:10]:
        size = size << 7 | byte & 0x7F
    footer = 10 if start[5] & 0x10 else 0
    return 10 + size + footer


def _counts_frames(head: bytes) -> bool:
    sync = next((i for i in range(len(head) - 3) if _is_layer_3(head[i : i + 3])), None)
    if sync is None:
        return False
    mpeg1 = head[sync + 1] & 0x18 == 0x18
    mono = head[sync + 3] & 0xC0 == 0xC0
    side_information = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    xing = head[sync + 4 + side_information :][:12]
    if xing[:4] in {b"Xing", b"Info"}:
        return len(xing) == 12 and bool(xing[7] & 1) and any(xing[8:12])
    vbri = head[sync + 4 + 32 :][:18]
    return vbri[:4] == b"VBRI" and any(vbri[14:18])


def _is_layer_3(start: bytes) -> bool:
    """Whether a frame header with a possible bit rate and sample rate begins so."""
    sync, version, rates = start
    return sync == 0xFF and version & 0xE6 == 0xE2 and rates & 0xF0 not in {0x00, 0xF0} and rates & 0x0C != 0x0C


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
