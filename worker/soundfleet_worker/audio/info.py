"""What is known of an audio file. Light, so that it can be imported before FFmpeg's libraries."""

from __future__ import annotations

from soundfleet_schemas import Record


class AudioInfo(Record, frozen=True, kw_only=True):
    """Facts of one audio file that was probed or decoded."""

    format: str
    """Container: mp3, wav, flac, ogg, m4a, webm or aac."""
    codec: str
    """FFmpeg's name of the decoder."""
    duration_sec: float
    """Decoded; from ``probe`` as the file states or FFmpeg guesses, 0 when neither knows."""
    sample_rate: int
    """Of the file, Hz."""
    channels: int
    """Of the file."""
    size_bytes: int
    bitrate: int | None = None
    """Bits per second of the whole file."""
    samples: int = 0
    """Per channel, in the decoded array; 0 from ``probe``."""
