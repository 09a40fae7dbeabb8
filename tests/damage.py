"""Files that are no songs, made one by one, each with the only code that it may end with (None: it plays)."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from soundfleet_schemas import ErrorCode
from tests import media
from tests.formats import SONGS, ogg_crc

UNSUPPORTED = ErrorCode.UNSUPPORTED_FORMAT
CORRUPT = ErrorCode.AUDIO_CORRUPT
EMPTY = ErrorCode.AUDIO_EMPTY
LONG = ErrorCode.AUDIO_TOO_LONG

PASSWD = "file:///etc/passwd"
METADATA = "http://169.254.169.254/latest/meta-data/"
RATE = 44_100
SECOND = np.zeros(RATE, "<i2").tobytes()


class Special(NamedTuple):
    """A file that is wrong in one way."""

    name: str
    data: bytes
    code: ErrorCode | None


def _texts() -> Iterator[Special]:
    """Words in many languages, called songs; some would make FFmpeg open something else."""
    texts = {
        "words.mp3": "This is a shopping list: milk, bread, and a song.\n" * 100,
        "page.mp3": "<!doctype html><html><body><audio src='song.mp3'></audio></body></html>",
        "picture.svg.wav": f"<svg xmlns='http://www.w3.org/2000/svg'><image href='{PASSWD}'/></svg>",
        "answer.json.flac": '{"error": "not found", "code": 404}',
        "entity.xml.mp3": f"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY x SYSTEM '{PASSWD}'>]><a>&x;</a>",
        "billion.xml.mp3": "<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]><l>&b;&b;</l>",
        "dash.mpd.m4a": f"<?xml version='1.0'?><MPD><Period><BaseURL>{METADATA}</BaseURL></Period></MPD>",
        "list.m3u": f"#EXTM3U\n#EXTINF:10,Song\n{PASSWD}\n",
        "hls.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{PASSWD}\n#EXT-X-ENDLIST\n",
        "hls.mp3": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{METADATA}\n#EXT-X-ENDLIST\n",
        "key.m3u8.ogg": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{PASSWD}"\n#EXTINF:9,\n{METADATA}\n#EXT-X-ENDLIST\n',
        "master.m3u8.aac": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nconcat:{PASSWD}|{METADATA}\n",
        "list.pls.mp3": f"[playlist]\nFile1={PASSWD}\nNumberOfEntries=1\nVersion=2\n",
        "list.asx.wav": f"<asx version='3.0'><entry><ref href='{METADATA}'/></entry></asx>",
        "list.xspf.ogg": f"<playlist><trackList><track><location>{PASSWD}</location></track></trackList></playlist>",
        "concat.wav": f"ffconcat version 1.0\nfile '{PASSWD}'\n",
        "concat.mp3": f"ffconcat version 1.0\nfile '{METADATA}'\noption protocol_whitelist http,tcp,file\n",
        "session.sdp.mp3": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "meta.ffmetadata.flac": ";FFMETADATA1\ntitle=Song\n",
        "words.srt.wav": "1\n00:00:00,000 --> 00:00:10,000\nla la la\n",
        "script.sh.mp3": "#!/bin/sh\nrm -rf /\n",
        "cue.flac": f'FILE "{PASSWD}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
        "list.ram.mp3": "rtsp://169.254.169.254/song.rm\n",
        "url.mp3": f"{METADATA}\n",
        "wide.txt.mp3": "",
    }
    for name, text in texts.items():
        yield Special(
            name, text.encode() or "m\N{LATIN SMALL LETTER U WITH DIAERESIS}sik".encode("utf-16"), UNSUPPORTED
        )


def _programs() -> Iterator[Special]:
    """Archives, programs, pictures and noise."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("song.wav", bytes(20_000_000))
    yield Special("bomb.zip.wav", bomb.getvalue(), UNSUPPORTED)
    yield Special("bomb.gz.mp3", gzip.compress(bytes(20_000_000)), UNSUPPORTED)
    yield Special("bomb.gz.gz.flac", gzip.compress(gzip.compress(bytes(50_000_000))), UNSUPPORTED)
    yield Special("program.mp3", Path("/proc/self/exe").read_bytes()[:100_000], UNSUPPORTED)
    yield Special(
        "document.pdf.mp3", b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF", UNSUPPORTED
    )
    yield Special("midi.mp3", b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0", UNSUPPORTED)
    yield Special("noise.mp3", np.random.default_rng(5).bytes(50_000), UNSUPPORTED)
    yield Special("zeros.wav", bytes(50_000), UNSUPPORTED)
    yield Special("ones.mp3", b"\xff" * 50_000, UNSUPPORTED)
    yield Special("byte.mp3", b"\xff", UNSUPPORTED)
    yield Special("letter.flac", b"f", UNSUPPORTED)
    yield Special("nothing.wav", b"", EMPTY)


def _foreign(directory: Path) -> Iterator[Special]:
    """Real media of other kinds."""
    tone = media.music(0.5)
    for kind in ("mkvac3", "aiff", "wavadpcm"):
        yield Special(f"{kind}.mp3", media.make(directory, kind, tone).read_bytes(), UNSUPPORTED)
    for name, shape in {
        "layer2.mp3": media.Format("mp2", "mp2", "mp2", "s16", 192_000),
        "windows.wma.mp3": media.Format("wma", "asf", "wmav2", "fltp", 128_000),
        "pack.wv.wav": media.Format("wv", "wv", "wavpack", "s16p"),
        "sun.au.wav": media.Format("au", "au", "pcm_s16be", "s16"),
        "core.caf.m4a": media.Format("caf", "caf", "pcm_s16be", "s16"),
        "sony.w64.wav": media.Format("w64", "w64", "pcm_s16le", "s16"),
        "true.tta.flac": media.Format("tta", "tta", "tta", "s16"),
        "film.avi.wav": media.Format("avi", "avi", "pcm_s16le", "s16"),
    }.items():
        media.FORMATS[name] = shape
        yield Special(name, media.make(directory, name, tone).read_bytes(), UNSUPPORTED)
        del media.FORMATS[name]
    yield Special("picture.mp3", media.picture(directory / "picture.png").read_bytes(), UNSUPPORTED)
    yield Special("film without sound.m4a", media.silent_film(directory / "silent.mp4").read_bytes(), UNSUPPORTED)


def _wavs() -> Iterator[Special]:
    """Headers that lie, and samples that are none."""
    wav = media.wav_bytes
    yield Special("no samples.wav", wav(b"", RATE, 2, 16), EMPTY)
    yield Special("too short.wav", wav(SECOND[:200], RATE, 1, 16), EMPTY)
    yield Special("claims a minute.wav", wav(SECOND, RATE, 1, 16, claimed_bytes=60 * len(SECOND)), CORRUPT)
    yield Special("claims an hour.wav", wav(SECOND, RATE, 1, 16, claimed_bytes=3_600 * len(SECOND)), LONG)
    yield Special("claims 4 GB.wav", wav(SECOND, RATE, 1, 16, claimed_bytes=0xFFFF_FFF0), None)
    yield Special("no format.wav", b"RIFF\xff\xff\xff\x7fWAVEdata" + struct.pack("<I", len(SECOND)) + SECOND, CORRUPT)
    yield Special("no data.wav", wav(SECOND, RATE, 1, 16)[:36], CORRUPT)
    yield Special("rate 0.wav", wav(SECOND, 0, 1, 16), CORRUPT)
    yield Special("rate 1.wav", wav(SECOND, 1, 1, 16), UNSUPPORTED)
    yield Special("rate 4e9.wav", wav(SECOND, 4_000_000_000, 1, 8), CORRUPT)
    for channels, code in {0: EMPTY, 9: UNSUPPORTED, 255: UNSUPPORTED, 65_535: EMPTY}.items():
        yield Special(f"{channels} channels.wav", wav(SECOND, RATE, channels, 16), code)
    for bits in (0, 65_535):
        yield Special(f"{bits} bits.wav", wav(SECOND, RATE, 1, bits), UNSUPPORTED)
    for tag in (0x50, 0x161, 0x2000, 0x7FFF):
        yield Special(f"codec {tag:x}.wav", wav(SECOND, RATE, 2, 16, tag=tag), UNSUPPORTED)
    for name, value in {"nan": np.nan, "inf": np.inf, "huge": 1e30}.items():
        frames = np.full(RATE, value, "<f4").tobytes()
        yield Special(f"{name}.wav", wav(frames, RATE, 1, 32, tag=3), CORRUPT)


def _long(directory: Path) -> Iterator[Special]:
    """Hours in a few bytes: said by the header, found while decoding, or both."""
    zeros = media.write(directory / "long.flac", np.zeros((1, 8_000 * 700), np.float32), 8_000, "flacsmall")
    said = bytearray(zeros.read_bytes())
    yield Special("eleven minutes of silence.flac", bytes(said), LONG)
    said[21] &= 0xF0
    said[22:26] = bytes(4)
    yield Special("eleven minutes, unsaid.flac", bytes(said), LONG)
    song = bytearray(SONGS["flac of 16 bits"](directory).path.read_bytes())
    song[21] |= 0x0F
    song[22:26] = b"\xff" * 4
    yield Special("claims weeks.flac", bytes(song), LONG)
    yield Special("eleven minutes.wav", media.long_file(directory / "long.wav").read_bytes(), LONG)


def _atom(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


def _mp4s(directory: Path) -> Iterator[Special]:
    """Boxes that are larger than the file, deeper than sense, or elsewhere."""
    ftyp = _atom(b"ftyp", b"M4A \0\0\2\0isom")
    whole = SONGS["m4a, its index at the end"](directory).path.read_bytes()
    at = whole.rindex(b"moov") - 4
    deep = b"moov"
    for _ in range(1_000):
        deep = _atom(b"moov", deep)
    yield Special("a name only.m4a", ftyp, CORRUPT)
    yield Special("no index.m4a", whole[:at], CORRUPT)
    yield Special("an index only.m4a", ftyp + whole[at:], CORRUPT)
    yield Special("a box of 2^63.m4a", ftyp + struct.pack(">I4sQ", 1, b"moov", 2**63), EMPTY)
    yield Special("a box of 4 GB.m4a", ftyp + b"\xff\xff\xff\xffmoov" + whole[at + 8 :], CORRUPT)
    yield Special("a thousand boxes in each other.m4a", ftyp + deep, CORRUPT)
    sizes = whole.index(b"stsz") + 12
    yield Special("billions of packets.m4a", whole[:sizes] + b"\x7f\xff\xff\xff" + whole[sizes + 4 :], CORRUPT)
    elsewhere = whole.replace(b"url \0\0\0\1", b"url \0\0\0\0")
    yield Special("its sound elsewhere.m4a", elsewhere, None)


def _streams(directory: Path) -> Iterator[Special]:
    """Containers with nothing in them, or with too much."""
    ogg = SONGS["opus in ogg"](directory).path.read_bytes()
    webm = SONGS["opus in webm"](directory).path.read_bytes()
    flac = SONGS["flac of 16 bits"](directory).path.read_bytes()
    mp3 = SONGS["mp3 of 192 kbit a second"](directory).path.read_bytes()
    first = ogg[: ogg.index(b"OggS", 4)]
    yield Special("one page.ogg", first, CORRUPT)
    yield Special("a thousand first pages.ogg", 1_000 * first, CORRUPT)
    yield Special("ten hours, says its end.opus", _ending(ogg, 36_000 * 48_000), LONG)
    yield Special("a page cut off.ogg", ogg[:-100], CORRUPT)
    yield Special("a header only.webm", webm[:60], CORRUPT)
    yield Special("an endless cluster.webm", webm[: webm.index(b"\x1fC\xb6u") + 4] + b"\x08" + b"\xff" * 7, CORRUPT)
    yield Special("a header only.flac", flac[:42], CORRUPT)
    yield Special("a picture of 16 MB that is not there.flac", flac[:42] + b"\x06\xff\xff\xff" + flac[42:], CORRUPT)
    yield Special("tags only.mp3", media_tags(), CORRUPT)
    yield Special("tags of 256 MB.mp3", b"ID3\4\0\0\x7f\x7f\x7f\x7f" + mp3, CORRUPT)
    yield Special("a cover that unpacks to 1.2 GB.mp3", _with_cover_bomb(directory, mp3), None)
    yield Special("two frames and words.mp3", mp3[:2_000] + b"la la la " * 5_000, CORRUPT)


def media_tags() -> bytes:
    """ID3v2, APEv2 and ID3v1 around nothing."""
    return b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + media.ape_tag(3_000) + media.ID3V1_TAG


def _ending(ogg: bytes, granule: int) -> bytes:
    """Let the last page say where the music ends; its checksum is made right."""
    at = ogg.rindex(b"OggS")
    page = bytearray(ogg[at:])
    page[6:14] = struct.pack("<q", granule)
    page[22:26] = bytes(4)
    page[22:26] = ogg_crc(bytes(page)).to_bytes(4, "little")
    return ogg[:at] + page


def _with_cover_bomb(directory: Path, mp3: bytes) -> bytes:
    """A picture of 20,000 by 20,000 in a few kilobytes, which a player would unpack to show it."""

    def part(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = zlib.compress(bytes(20_000 * 2_501), 9)
    png = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0))
    path = directory / "bomb.mp3"
    path.write_bytes(mp3)
    return media.with_cover(path, png + part(b"IDAT", rows) + part(b"IEND", b"")).read_bytes()


SPECIALS: tuple[Callable[[Path], Iterator[Special]], ...] = (
    lambda _directory: _texts(),
    lambda _directory: _programs(),
    _foreign,
    lambda _directory: _wavs(),
    _long,
    _mp4s,
    _streams,
)
