"""Real files, each of another format, and what was encoded into them.

What a separation of such a file must give follows from ``Song``: the file holds ``held`` samples at ``rate``, its music
begins ``late`` of them after the start, and it is the encoded signal up to ``snr_db``.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np

from tests import media
from tests.media import Signal

CD = 44_100
DVD = 48_000


@dataclass(frozen=True)
class Song:
    """One file and its truth."""

    path: Path
    audio: Signal
    """What was encoded, (channels, samples)."""
    rate: int
    snr_db: float
    """The least that the format leaves of the signal."""
    held: int
    """Samples of the file, by the rule of its format."""
    late: int = 0
    """Samples that come before the music: an encoder's delay that the file does not state."""


Maker = Callable[[Path], Song]
Change = Callable[[Song], Song | None]
SONGS: dict[str, Maker] = {}
"""Each writes its file into a directory."""


def _add(
    name: str,
    kind: str,
    snr_db: float,
    *,
    rate: int = CD,
    channels: int = 2,
    samples: int = 60_011,
    audio: Callable[[Signal], Signal] = lambda music: music,
    change: Change = lambda _song: None,
    suffix: str | None = None,
) -> None:
    """A file as FFmpeg writes it, of an odd number of samples; ``change`` edits it or corrects what it holds."""

    def make(directory: Path) -> Song:
        signal = audio(media.music(samples / rate + 1, rate, channels, seed=zlib.crc32(name.encode()))[:, :samples])
        file = f"{len(list(directory.iterdir()))}.{suffix or media.FORMATS[kind].suffix}"
        song = Song(media.make(directory, kind, signal, rate, file), signal, rate, snr_db, held=samples)
        return change(song) or song

    assert name not in SONGS
    SONGS[name] = make


def _edit(edit: Callable[[bytes], bytes]) -> Change:
    """Change the bytes of a file, and nothing of what it holds."""

    def change(song: Song) -> None:
        song.path.write_bytes(edit(song.path.read_bytes()))

    return change


def _milliseconds(song: Song) -> Song:
    """FFmpeg's MP4 states where the music ends, in an edit list that counts in milliseconds."""
    return replace(song, held=round(round(1_000 * song.held / song.rate) * song.rate / 1_000))


def _last_granule(song: Song) -> Song:
    """A Vorbis stream ends where its last page says; FFmpeg's encoder says the end of its last block."""
    data = song.path.read_bytes()
    return replace(song, held=struct.unpack_from("<q", data, data.rindex(b"OggS") + 6)[0])


def _whole_frames(frame: int, late: int) -> Change:
    """A stream of bare frames: all of them are its length, and the encoder's delay is part of it."""

    def change(song: Song) -> Song:
        with av.open(str(song.path)) as container:
            frames = sum(packet.size > 0 for packet in container.demux(audio=0))
        return replace(song, held=frame * frames, late=late)

    return change


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _riff(form: bytes, data: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    body = b"WAVE" + _chunk(b"fmt ", form) + before + _chunk(b"data", data) + behind
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _extensible(channels: int, rate: int, bits: int, valid: int, mask: int = 3) -> bytes:
    guid = struct.pack("<HHHH", 1, 0, 0, 0x10) + bytes.fromhex("800000aa00389b71")
    align = channels * bits // 8
    return struct.pack("<HHIIHHHHI", 0xFFFE, channels, rate, rate * align, align, bits, 22, valid, mask) + guid


def _integers(audio: Signal, bits: int, container: int) -> bytes:
    """Little-endian frames of ``bits`` in the upper part of ``container`` bits."""
    wide = np.rint(audio.T.astype(np.float64) * 2 ** (bits - 1)).astype(np.int64) << (container - bits)
    return wide.astype("<i8").reshape(-1, 1).view(np.uint8)[:, : container // 8].tobytes()


def _extensible_24(song: Song) -> None:
    frames = _integers(song.audio, 24, 24)
    song.path.write_bytes(_riff(_extensible(2, song.rate, 24, 24), frames))


def _extensible_24_in_32(song: Song) -> None:
    frames = _integers(song.audio, 24, 32)
    song.path.write_bytes(_riff(_extensible(2, song.rate, 32, 24), frames))


def _broadcast(song: Song) -> None:
    """Chunks of odd length before and behind the music, as programs for radio and for tags leave them."""
    before = _chunk(b"bext", b"b" * 603) + _chunk(b"LIST", b"INFOINAM" + struct.pack("<I", 5) + b"Song\0\0") + b""
    form = struct.pack("<HHIIHH", 1, 2, song.rate, 4 * song.rate, 4, 16)
    song.path.write_bytes(_riff(form, _integers(song.audio, 16, 16), before, _chunk(b"id3 ", b"ID3\4" + bytes(301))))


def _odd_bytes(song: Song) -> None:
    """One byte per sample and an odd number of them: the data is padded, and a chunk follows."""
    data = (np.rint(song.audio[0] * 127) + 128).astype(np.uint8).tobytes()
    form = struct.pack("<HHIIHH", 1, 1, song.rate, song.rate, 1, 8)
    song.path.write_bytes(_riff(form, data, behind=_chunk(b"LIST", b"INFO" + b"\xff" * 99)))


def _rf64(song: Song) -> None:
    """The sizes of a file that may be larger than 4 GB stand in a chunk of their own."""
    frames = _integers(song.audio, 16, 16)
    form = _chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, song.rate, 4 * song.rate, 4, 16))
    sizes = _chunk(b"ds64", struct.pack("<QQQI", 72 + len(frames), len(frames), song.held, 0))
    song.path.write_bytes(b"RF64\xff\xff\xff\xffWAVE" + sizes + form + b"data\xff\xff\xff\xff" + frames)


def _piped(raw: bytes) -> bytes:
    """A program that wrote into a pipe could not go back to put the sizes in."""
    at = raw.index(b"data") + 4
    return raw[:4] + b"\xff" * 4 + raw[8:at] + b"\xff" * 4 + raw[at + 4 :]


def _flac_block(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def _with_picture(raw: bytes) -> bytes:
    """A cover and tags between FLAC's own header and the music."""
    cover = np.random.default_rng(0).bytes(30_000)
    picture = struct.pack(">II9sII", 3, 9, b"image/png", 0, 500) + struct.pack(">IIII", 500, 24, 0, len(cover)) + cover
    tags = base64.b85encode(bytes(300))
    comment = struct.pack("<I4sII", 4, b"test", 1, len(tags)) + tags
    return raw[:42] + _flac_block(6, picture) + _flac_block(4, comment) + raw[42:]


def _id3v2_4(frames: bytes) -> bytes:
    size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x10" + size + frames + b"3DI\x04\x00\x10" + size  # with a footer


def _tagged(raw: bytes) -> bytes:
    """ID3v2.4 with a footer, APEv2 and ID3v1 around the same music."""
    title = b"TIT2" + bytes([0, 0, 0, 5, 0, 0]) + b"\x03Song"
    return _id3v2_4(title + bytes(500)) + raw + media.ape_tag(20_000) + media.ID3V1_TAG


def _chained(song: Song) -> Song:
    """Two streams, one behind the other in one file, as radio stations and careful joiners write them."""
    once = song.path.read_bytes()
    other = bytearray(once)
    serial = once[14:18]
    at = 0
    while (at := other.find(b"OggS", at)) >= 0:
        if other[at + 14 : at + 18] == serial:
            other[at + 14 : at + 18] = b"next"
            other[at + 22 : at + 26] = bytes(4)
            end = at + 27 + other[at + 26] + sum(other[at + 27 : at + 27 + other[at + 26]])
            other[at + 22 : at + 26] = ogg_crc(bytes(other[at:end])).to_bytes(4, "little")
        at += 4
    song.path.write_bytes(once + other)
    one = _last_granule(song).held if song.path.suffix == ".ogg" else song.held
    rest = np.zeros((song.audio.shape[0], one - song.held), np.float32)
    return replace(song, audio=np.concatenate([song.audio, rest, song.audio], axis=1), held=2 * one)


def ogg_crc(page: bytes) -> int:
    """The checksum of an ogg page, whose own field is zero."""
    crc = 0
    for byte in page:
        crc = (crc << 8 & 0xFFFF_FFFF) ^ _CRC[crc >> 24 ^ byte]
    return crc


def _crc_of(value: int) -> int:
    crc = value << 24
    for _ in range(8):
        crc = (crc << 1 ^ (0x04C1_1DB7 if crc & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return crc


_CRC = [_crc_of(value) for value in range(256)]


def _film(song: Song) -> Song:
    """Pictures with sound; FFmpeg states the end of the sound in milliseconds here too."""
    media.film(song.path, song.audio, song.rate)
    return _milliseconds(song)


_add("wav of 8 bits, mono, 22 kHz", "wav8", 15, rate=22_050, channels=1, samples=30_011)
_add("wav of 16 bits", "wav16", 60)
_add("wav of 24 bits, 96 kHz", "wav24", 90, rate=96_000, samples=110_017)
_add("wav of 32 bits, 192 kHz", "wav32", 90, rate=192_000, samples=200_003)
_add("wav of floats", "wavfloat", 90)
_add("wav of doubles", "wavdouble", 90)
_add("wav of a telephone, A-law", "wavalaw", 25, rate=8_000, channels=1, samples=12_001)
_add("wav of a telephone, mu-law", "wavmulaw", 25, rate=8_000, channels=1, samples=12_001)
_add("wav of 5.1", "wav16", 60, rate=DVD, channels=6)
_add("wav, extensible, of 24 bits", "wav16", 90, rate=DVD, change=_extensible_24)
_add("wav, extensible, of 24 bits in 32", "wav16", 90, change=_extensible_24_in_32)
_add("wav of a broadcaster, chunks around", "wav16", 60, rate=DVD, change=_broadcast)
_add("wav of an odd number of bytes", "wav8", 15, channels=1, change=_odd_bytes)
_add("wav of 64-bit sizes", "wav16", 60, change=_rf64)
_add("wav out of a pipe", "wav16", 60, change=_edit(_piped))
_add("wav of silence", "wav16", 0, audio=np.zeros_like)
_add("wav that clips", "wav16", 60, audio=lambda music: np.clip(20 * music, -1, 1 - 2**-15))
_add("wav with an offset", "wav16", 60, audio=lambda music: music + np.float32(0.25))
_add("wav of the shortest length", "wav16", 60, samples=4_410)
_add("flac of 16 bits", "flac16", 60)
_add("flac of 24 bits, 96 kHz", "flac24", 90, rate=96_000, samples=110_017)
_add("flac of 7.1", "flac24", 90, rate=DVD, channels=8)
_add("flac in blocks of 577", "flacsmall", 60)
_add("flac with a picture", "flac16", 60, change=_edit(_with_picture))
_add("flac behind ID3", "flac16", 60, change=_edit(lambda raw: _id3v2_4(bytes(100)) + raw))
_add("flac called mp3", "flac16", 60, suffix="mp3")
_add("flac in ogg", "oggflac", 60)
_add("flac in matroska", "mkaflac", 60)
_add("mp3 of 192 kbit a second", "mp3", 20)
_add("mp3 of an average bit rate", "mp3abr", 20, rate=DVD)
_add("mp3 of a variable bit rate with a cover", "mp3vbr", 20, change=lambda song: media.with_cover(song.path) and None)
_add("mp3 with three kinds of tags", "mp3", 20, change=_edit(_tagged))
_add("mp3 of 22 kHz, mono (MPEG-2)", "mp3", 20, rate=22_050, channels=1, samples=30_011)
_add("mp3 of 8 kHz (MPEG-2.5)", "mp3abr", 10, rate=8_000, channels=1, samples=12_001)
_add("mp3 without a header of its own", "mp3bare", 20, change=_whole_frames(1_152, late=1_105))
_add("aac in adts", "aac", 20, change=_whole_frames(1_024, late=1_024))
_add("m4a, its index at the end", "m4a", 20, change=_milliseconds)
_add("m4a, its index at the start", "m4afast", 20, rate=DVD, change=_milliseconds)
_add("m4a in fragments", "m4afrag", 20, change=lambda song: replace(song, held=song.held + 1_024, late=1_024))
_add("m4a of 5.1", "m4a", 15, rate=DVD, channels=6, change=_milliseconds)
_add("alac of 16 bits", "alac", 60)
_add("alac of 24 bits, 96 kHz", "alac24", 90, rate=96_000, samples=110_017)
_add("the sound of a film", "m4a", 20, rate=DVD, change=_film)
_add("ogg vorbis", "ogg", 20, change=_last_granule)
_add("ogg vorbis, two streams in a chain", "ogg", 20, change=_chained)
_add("opus in ogg", "opus", 15, rate=DVD)
_add("opus in ogg, two streams in a chain", "opus", 15, rate=DVD, change=_chained)
_add("opus in ogg, of 5.1", "opus512", 10, rate=DVD, channels=6)
_add("opus in webm", "webm", 15, rate=DVD)
_add("vorbis in webm without a length", "webmlive", 20, change=lambda song: replace(song, held=60_032))
