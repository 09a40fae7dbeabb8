"""Which files the fleet reads and writes: FFmpeg's names of containers and codecs, and the fleet's words for them.

FFmpeg reads far more than audio files: playlists, network streams, image sequences, scripts of other files. Only
what stands here may be opened, whatever a file is called.
"""

from __future__ import annotations

from soundfleet_schemas import OutputFormat

CONTAINERS: dict[str, str] = {
    "mp3": "mp3",
    "wav": "wav",
    "flac": "flac",
    "ogg": "ogg",
    "aac": "aac",
    "mov,mp4,m4a,3gp,3g2,mj2": "m4a",
    "matroska,webm": "webm",
}
"""FFmpeg's demuxers that may run, and the fleet's word for what they read."""

_PCM = ("u8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "f64le", "f64be", "alaw", "mulaw")
CODECS = frozenset({"mp3", "mp3float", "flac", "vorbis", "opus", "libopus", "aac", "alac", *(f"pcm_{p}" for p in _PCM)})
"""FFmpeg's decoders that may run."""

OPEN_OPTIONS: dict[str, str] = {
    "format_whitelist": ",".join(CONTAINERS),
    "codec_whitelist": ",".join(sorted(CODECS)),
    "protocol_whitelist": "file",
    "max_streams": "64",
}
"""Options of every file that is opened to be read."""

TAIL_HIDDEN: dict[str, str] = OPEN_OPTIONS | {"protocol_whitelist": "file,subfile"}
"""Of a file whose last bytes are no music: FFmpeg is shown its beginning."""


def format_of(container: str, codec: str) -> str:
    """Return the word of ``INPUT_FORMATS``: the container's, but an ogg of Opus is called after its codec."""
    return "opus" if container == "ogg" and codec in {"opus", "libopus"} else container


MAX_CHANNELS = 8
MIN_SAMPLE_RATE = 4_000
"""Half of a telephone's. Below, a few bytes would become minutes of audio."""

_SIGNATURES = (
    (0, b"fLaC"),
    (0, b"OggS"),
    (0, b"ID3"),
    (0, b"\x1aE\xdf\xa3"),  # EBML: Matroska and WebM
    (4, b"ftyp"),
    (8, b"WAVE"),
)


def looks_like_audio(head: bytes) -> bool:
    """Say whether a file's first bytes are those of an accepted container, damaged or not."""
    return any(head[at : at + len(mark)] == mark for at, mark in _SIGNATURES)


def may_be_mp3(head: bytes) -> bool:
    """Say whether a file's first bytes are of no other container; an mp3 has no signature of its own."""
    return head.startswith(b"ID3") or not looks_like_audio(head)


_CONTENT_TYPES: dict[OutputFormat, str] = {
    OutputFormat.wav: "audio/wav",
    OutputFormat.flac: "audio/flac",
    OutputFormat.mp3: "audio/mpeg",
}


def content_type(output_format: OutputFormat) -> str:
    """Name the MIME type that a delivered file is stored under."""
    return _CONTENT_TYPES[output_format]
