"""Real media files for tests: every format the fleet reads, and the broken ones it must refuse.

Signals are float32 arrays of shape (channels, samples). Files are made with FFmpeg's own encoders, not with the
project's, so that a mistake in one is not hidden by the same mistake in the other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float32]

LAYOUTS = {1: "mono", 2: "stereo", 4: "quad", 6: "5.1", 8: "7.1"}


def sine(seconds: float, rate: int = 44_100, channels: int = 2, hertz: float = 440.0, gain: float = 0.5) -> Signal:
    """A tone; every further channel is a fifth higher, so that swapped channels are noticed."""
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([gain * np.sin(2 * np.pi * hertz * 1.5**c * time) for c in range(channels)]).astype(np.float32)


def noise(seconds: float, rate: int = 44_100, channels: int = 2, seed: int = 0, gain: float = 0.1) -> Signal:
    """White noise, different in every channel."""
    generator = np.random.default_rng(seed)
    return (gain * generator.standard_normal((channels, round(seconds * rate)))).astype(np.float32)


def music(seconds: float, rate: int = 44_100, channels: int = 2, seed: int = 0) -> Signal:
    """A few decaying notes over a little noise: what a lossy codec is made for."""
    generator = np.random.default_rng(seed)
    samples = round(seconds * rate)
    time = np.arange(samples) / rate
    signal = 0.002 * generator.standard_normal((channels, samples))
    for start in np.arange(0.0, seconds, 0.25):
        hertz = 110.0 * 2 ** (generator.integers(0, 36) / 12)
        since = np.maximum(time - start, 0.0)
        note = np.where(time >= start, np.exp(-6 * since) * np.sin(2 * np.pi * hertz * since), 0.0)
        signal += 0.15 * generator.uniform(0.5, 1.0, (channels, 1)) * note
    return signal.astype(np.float32)


def clicks(seconds: float, rate: int = 44_100, channels: int = 2, every: float = 0.25, gain: float = 0.8) -> Signal:
    """Single-sample clicks; the first comes after ``every`` seconds."""
    signal = np.zeros((channels, round(seconds * rate)), dtype=np.float32)
    signal[:, round(every * rate) :: round(every * rate)] = gain
    return signal


@dataclass(frozen=True)
class Format:
    """How a file is written: FFmpeg's names of the container and the codec, and the codec's sample format."""

    suffix: str
    container: str
    codec: str
    sample_format: str
    bit_rate: int | None = None
    options: tuple[tuple[str, str], ...] = ()
    muxer_options: tuple[tuple[str, str], ...] = ()


FORMATS: dict[str, Format] = {
    "wav8": Format("wav", "wav", "pcm_u8", "u8"),
    "wav16": Format("wav", "wav", "pcm_s16le", "s16"),
    "wav24": Format("wav", "wav", "pcm_s24le", "s32"),
    "wav32": Format("wav", "wav", "pcm_s32le", "s32"),
    "wavfloat": Format("wav", "wav", "pcm_f32le", "flt"),
    "wavdouble": Format("wav", "wav", "pcm_f64le", "dbl"),
    "flac16": Format("flac", "flac", "flac", "s16"),
    "flac24": Format("flac", "flac", "flac", "s32"),
    "alac": Format("m4a", "ipod", "alac", "s16p"),
    "mp3": Format("mp3", "mp3", "libmp3lame", "fltp", 192_000),
    "mp3vbr": Format("mp3", "mp3", "libmp3lame", "fltp", None, (("q", "2"), ("compression_level", "7"))),
    "mp3bare": Format("mp3", "mp3", "libmp3lame", "fltp", 128_000, (), (("write_xing", "0"), ("id3v2_version", "0"))),
    "mp3bare320": Format(
        "mp3", "mp3", "libmp3lame", "fltp", 320_000, (), (("write_xing", "0"), ("id3v2_version", "0"))
    ),
    "m4a": Format("m4a", "ipod", "aac", "fltp", 192_000),
    "m4afast": Format("m4a", "ipod", "aac", "fltp", 192_000, (), (("movflags", "faststart"),)),
    "aac": Format("aac", "adts", "aac", "fltp", 192_000),
    "ogg": Format("ogg", "ogg", "vorbis", "fltp", None, (("strict", "experimental"),)),
    "opus": Format("opus", "ogg", "libopus", "flt", 128_000),
    "opus512": Format("opus", "ogg", "libopus", "flt", 512_000),
    "webm": Format("webm", "webm", "libopus", "flt", 128_000),
    "webmlive": Format("webm", "webm", "vorbis", "fltp", 128_000, (("strict", "experimental"),), (("live", "1"),)),
    "m4afrag": Format(
        "m4a", "mp4", "aac", "fltp", 192_000, (), (("movflags", "empty_moov"), ("frag_duration", "500000"))
    ),
    "wavalaw": Format("wav", "wav", "pcm_alaw", "s16"),
    "wavmulaw": Format("wav", "wav", "pcm_mulaw", "s16"),
    "wavadpcm": Format("wav", "wav", "adpcm_ima_wav", "s16p"),
    "flacsmall": Format("flac", "flac", "flac", "s16", None, (("frame_size", "577"),)),
    "alac24": Format("m4a", "ipod", "alac", "s32p"),
    "mp3abr": Format("mp3", "mp3", "libmp3lame", "fltp", 144_000, (("abr", "1"),)),
    "oggflac": Format("oga", "ogg", "flac", "s16"),
    "mkaflac": Format("mka", "matroska", "flac", "s16"),
    "webmvorbis": Format("webm", "webm", "vorbis", "fltp", 128_000, (("strict", "experimental"),)),
    "mkvac3": Format("mkv", "matroska", "ac3", "fltp", 192_000),
    "aiff": Format("aiff", "aiff", "pcm_s16be", "s16"),
}


def write(path: Path, audio: Signal, rate: int = 44_100, kind: str = "wav16") -> Path:
    """Write ``audio`` to ``path`` in one of FORMATS, whatever the path's own suffix says."""
    shape = FORMATS[kind]
    with av.open(str(path), "w", format=shape.container, options=dict(shape.muxer_options)) as container:
        options = dict(shape.options)
        stream = container.add_stream(shape.codec, rate=rate, layout=LAYOUTS[audio.shape[0]], options=options)
        stream.codec_context.format = shape.sample_format
        if shape.bit_rate is not None:
            stream.codec_context.bit_rate = shape.bit_rate
        if "q" in options:
            stream.codec_context.qscale = True
        block = 4_096
        for start in range(0, audio.shape[1], block):
            frame = _frame(audio[:, start : start + block], shape.sample_format)
            frame.sample_rate = rate
            frame.pts = start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make(directory: Path, kind: str, audio: Signal, rate: int = 44_100, name: str | None = None) -> Path:
    """Write ``audio`` as ``directory/name`` (default: the kind with its usual suffix) and return the path."""
    return write(directory / (name or f"{kind}.{FORMATS[kind].suffix}"), audio, rate, kind)


def _frame(block: Signal, sample_format: str) -> av.AudioFrame:
    wide = block.astype(np.float64)
    match sample_format.removesuffix("p"):
        case "u8":
            data = (np.clip(np.rint(wide * 128), -128, 127) + 128).astype(np.uint8)
        case "s16":
            data = np.clip(np.rint(wide * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
        case "s32":  # FFmpeg keeps 24 bits in the upper part of 32
            data = (np.clip(np.rint(wide * 2**23), -(2**23), 2**23 - 1) * 2**8).astype(np.int32)
        case "dbl":
            data = wide
        case _:
            data = block.astype(np.float32)
    if not sample_format.endswith("p"):
        data = data.T.reshape(1, -1)
    return av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=sample_format, layout=LAYOUTS[block.shape[0]])


def with_cover(path: Path, cover: bytes | None = None) -> Path:
    """Put an ID3v2.3 tag with a title and a cover before an mp3; by default a broken JPEG of 40 kB."""
    rubbish = bytes(np.random.default_rng(1).integers(0, 256, 40_000, dtype=np.uint8))
    kind, cover = (b"jpeg", b"\xff\xd8\xff\xe0" + rubbish) if cover is None else (b"png", cover)
    frames = _id3_frame(b"TIT2", b"\x00Song") + _id3_frame(b"APIC", b"\x00image/" + kind + b"\x00\x03\x00" + cover)
    size = len(frames)
    syncsafe = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\x00\x00" + syncsafe + frames + path.read_bytes())
    return path


def _id3_frame(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">IH", len(body), 0) + body


def ape_tag(value_bytes: int, seed: int = 0) -> bytes:
    """An APEv2 tag with header and footer around a cover of noise."""
    cover = np.random.default_rng(seed).integers(0, 256, value_bytes, dtype=np.uint8).tobytes()
    value = b"cover.jpg\0" + cover
    item = struct.pack("<II", len(value), 2) + b"Cover Art (Front)\0" + value
    ends = [b"APETAGEX" + struct.pack("<IIII", 2_000, len(item) + 32, 1, f) + bytes(8) for f in (0xA000_0000, 1 << 31)]
    return ends[0] + item + ends[1]


def lyrics3_tag(text_bytes: int) -> bytes:
    """A Lyrics3v2 tag: fields, their size in six digits, and its name at the end."""
    body = b"LYRICSBEGIN" + b"LYR" + b"%05d" % text_bytes + b"la " * (text_bytes // 3) + b"x" * (text_bytes % 3)
    return body + b"%06d" % len(body) + b"LYRICS200"


ID3V1_TAG = b"TAG" + b"Song".ljust(125, b"\0")


def truncate(path: Path, share: float) -> Path:
    """Cut a file to ``share`` of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def flip_bits(path: Path, share: float = 0.01, start: float = 0.3, seed: int = 0) -> Path:
    """Damage ``share`` of the bytes behind the first ``start`` of the file."""
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    generator = np.random.default_rng(seed)
    first = int(len(data) * start)
    where = generator.choice(np.arange(first, len(data)), max(1, int(share * (len(data) - first))), replace=False)
    data[where] ^= generator.integers(1, 256, len(where)).astype(np.uint8)
    path.write_bytes(data.tobytes())
    return path


def wav_bytes(
    frames: bytes, rate: int, channels: int, bits: int, *, tag: int = 1, claimed_bytes: int | None = None
) -> bytes:
    """A plain RIFF file around raw frames; ``claimed_bytes`` makes its header lie about the data's size."""
    size = len(frames) if claimed_bytes is None else claimed_bytes
    align = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * align % 2**32, align % 2**16, bits)
    riff = min(4 + 8 + len(form) + 8 + size, 2**32 - 1)
    return (
        b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
        + b"data" + struct.pack("<I", size) + frames
    )  # fmt: skip


def long_file(path: Path, seconds: float = 660.0, rate: int = 8_000) -> Path:
    """Eleven minutes in 5 MB: 8 kHz, mono, 8 bits."""
    tone = (128 + 60 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.uint8).tobytes()
    samples = round(seconds * rate)
    path.write_bytes(wav_bytes((tone * (samples // rate + 1))[:samples], rate, 1, 8))
    return path


def empty_audio(path: Path) -> Path:
    """A WAV file with a proper header and no samples."""
    path.write_bytes(wav_bytes(b"", 44_100, 2, 16))
    return path


def text_file(path: Path) -> Path:
    """Words, whatever the name says."""
    path.write_text("This is a shopping list: milk, bread, and a song.\n" * 200)
    return path


PLAYLISTS: dict[str, str] = {
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
    "hls.mp3": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "list.wav": "ffconcat version 1.0\nfile '{target}'\n",
    "list.pls": "[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
}
"""Text that makes FFmpeg open something else: playlists by name and by disguise."""


def playlist(path: Path, target: Path) -> Path:
    """Write the playlist that belongs to ``path.name``, pointing at a real file."""
    path.write_text(PLAYLISTS[path.name].format(target=target))
    return path


def picture(path: Path) -> Path:
    """A small PNG."""
    return _video(path, "image2", "png", "rgb24", 1)


def silent_film(path: Path) -> Path:
    """A second of MP4 with pictures and no sound."""
    return _video(path, "mp4", "mpeg4", "yuv420p", 10)


def film(path: Path, audio: Signal, rate: int, container: str = "mp4") -> Path:
    """Three seconds of pictures, with the sound that is given."""
    return _video(path, container, "mpeg4", "yuv420p", 30, audio, rate)


def _video(
    path: Path, container: str, codec: str, pixels: str, count: int, audio: Signal | None = None, rate: int = 44_100
) -> Path:
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pixels
        sound = None if audio is None else file.add_stream("aac", rate=rate, layout=LAYOUTS[audio.shape[0]])
        for index in range(count):
            picture = np.full((32, 32, 3), 8 * index, dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)))
        file.mux(stream.encode(None))
        if sound is not None and audio is not None:
            frame = _frame(audio, "fltp")
            frame.sample_rate, frame.pts = rate, 0
            file.mux(sound.encode(frame))
            file.mux(sound.encode(None))
    return path
