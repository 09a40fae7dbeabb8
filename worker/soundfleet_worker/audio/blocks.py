"""The samples of an opened file, block by block, with their damage measured.

What is damage, and how much is forgiven:
  * Time without sound counts as lost: packets that the decoder refuses, and holes between the timestamps of
    neighbouring frames. A hole is filled with silence, so that the rest stays in time. An mp3 has no timestamps: the
    frames that are missing in one that counts them are found by their bytes, and by their count at the end.
  * Up to LOST_SEC or LOST_SHARE of the audio, whichever is more, may be lost: two mp3 frames of a short song, eleven
    of a ten-minute one. More is AUDIO_CORRUPT. FLAC's checksums are checked; damage that a format cannot notice (in
    PCM, often in mp3) is heard and not seen.
  * Audio that ends more than PADDING_SEC before the length that the file states is AUDIO_CORRUPT: it was cut off. Where
    the statement is exact, what is missing counts as lost instead.
  * Samples that are not finite, or louder than MAX_LEVEL, are AUDIO_CORRUPT: cleaning them would hide a broken export.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from soundfleet_schemas import ErrorCode, Limits, SoundfleetError, error

from .channels import Samples, downmix
from .mp3 import frame_at
from .probe import PADDING_SEC, Source, check_sample_rate, empty, too_long

LOST_SEC = 0.06
LOST_SHARE = 0.0005
HOLE_SEC = 0.02
"""Timestamps may jitter by less (WebM's are whole milliseconds)."""
MAX_LEVEL = 1_000.0
"""+60 dBFS. A float file with such samples was not scaled to 1.0."""


class Blocks:
    """Iterate once to decode. Afterwards ``samples`` is the length, at ``sample_rate``.

    Raises AUDIO_CORRUPT, AUDIO_EMPTY, AUDIO_TOO_LONG or UNSUPPORTED_FORMAT (a stream that changes its shape).
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source, self._limits = source, limits
        self.sample_rate = 0
        self.channels = 0
        self.samples = 0
        self._lost_sec = 0.0
        self._refused_sec = 0.0
        """Of packets refused, and of frames not found, since the last good frame."""
        self._frame_bytes = 0
        """Of the mp3 frame whose header was read last."""
        self._next_sec: float | None = None
        """Where the next frame should begin, on the stream's clock."""

    def __iter__(self) -> Iterator[Samples]:
        """Yield float32 of shape (1 or 2, n)."""
        for frame in self._frames():
            block = _to_float(frame)
            hole = self._account(frame)
            self._check_levels(block)
            block = downmix(block, tuple(channel.name for channel in frame.layout.channels))
            self.samples += hole + block.shape[1]
            if self.samples > (self._limits.max_audio_sec + PADDING_SEC) * self.sample_rate:
                raise too_long(self._limits.max_audio_sec, self._limits)
            if hole:
                yield np.zeros((block.shape[0], hole), dtype=np.float32)
            yield block
        self._check_end()

    def _frames(self) -> Iterator[AudioFrame]:
        """Decode; count refused packets, and let the container's own errors end the file as corrupt."""
        source = self._source
        source.stream.codec_context.options = {"err_detect": "crccheck+explode"} if source.info.codec == "flac" else {}
        packets = source.container.demux(source.stream)
        while True:
            try:
                packet = next(packets, None)
            except MemoryError:
                raise
            except av.error.PatchWelcomeError as exc:
                raise error(
                    ErrorCode.UNSUPPORTED_FORMAT, f"FFmpeg cannot read what the file does after {self.seconds:.1f} s"
                ) from exc
            except av.error.FFmpegError as exc:
                raise error(
                    ErrorCode.AUDIO_CORRUPT, f"the file cannot be read on after {self.seconds:.1f} s: {exc.strerror}"
                ) from exc
            if packet is None:
                return
            if packet.has_sidedata(
                "new_extradata"
            ):  # the next stream of a chain: nothing of it belongs to the last one
                source.stream.codec_context.flush_buffers()
            try:
                yield from packet.decode() if source.decoder is None else source.decoder.decode(packet)
            except MemoryError:
                raise
            except av.error.FFmpegError:  # invalid, unknown or unfinished: whatever the decoder did not like
                self._refused_sec += _seconds(packet)
            if source.gapless:
                self._refused_sec += self._swallowed_frames(packet) * _seconds(packet)

    def _swallowed_frames(self, packet: av.Packet[AudioStream]) -> int:
        """Count what an mp3's packet holds beyond one frame: FFmpeg hands on what it finds no header in."""
        if frame := frame_at(bytes(packet)[:4]):
            self._frame_bytes = frame.size
        return max(0, round(packet.size / self._frame_bytes) - 1) if self._frame_bytes else 0

    def _account(self, frame: AudioFrame) -> int:
        """Check a frame's shape, add what was lost before it, and return the samples of silence to put there."""
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        if not self.sample_rate:
            check_sample_rate(rate)
            self.sample_rate, self.channels = rate, channels
        if (rate, channels) != (self.sample_rate, self.channels):
            raise error(
                ErrorCode.UNSUPPORTED_FORMAT,
                f"after {self.seconds:.1f} s the stream changes from {self.channels} channels at {self.sample_rate} Hz "
                f"to {channels} channels at {rate} Hz",
            )
        begin = float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else self._next_sec
        hole = max(0.0, begin - self._next_sec) if begin is not None and self._next_sec is not None else 0.0
        hole = hole if hole > HOLE_SEC else 0.0
        lost = max(hole, self._refused_sec)
        self._lose(lost)
        self._refused_sec = 0.0
        self._next_sec = None if begin is None else begin + frame.samples / rate
        return round((lost if self._source.gapless else hole) * rate)

    @property
    def seconds(self) -> float:
        """Length decoded so far."""
        return self.samples / self.sample_rate if self.sample_rate else 0.0

    def _lose(self, seconds: float) -> None:
        """Add lost time; give up as soon as not even the longest audio could forgive it."""
        self._lost_sec += seconds
        if self._lost_sec > max(LOST_SEC, LOST_SHARE * self._limits.max_audio_sec):
            raise self._damaged()

    def _check_levels(self, block: Samples) -> None:
        if not np.abs(block).max(initial=0.0) <= MAX_LEVEL:  # also true of NaN
            channel, index = np.argwhere(~(np.abs(block) <= MAX_LEVEL))[0]
            at = self.seconds + index / self.sample_rate
            raise error(
                ErrorCode.AUDIO_CORRUPT,
                f"at {at:.2f} s there is a sample of {block[channel, index]:g}, where full scale is 1",
            )

    def _check_end(self) -> None:
        """Judge the whole: something there, not cut off, not too damaged."""
        if self.samples == 0:
            if self._lost_sec or self._refused_sec or self._source.info.duration_sec:
                raise error(ErrorCode.AUDIO_CORRUPT, "nothing in the file can be decoded")
            raise empty(self._source.info.format)
        stated, gapless = self._source.stated_sec, self._source.gapless
        forgiven = max(LOST_SEC, LOST_SHARE * self.seconds)
        missing = 0.0 if stated is None else max(0.0, stated - self.seconds)
        if stated is not None and missing > (forgiven if gapless else PADDING_SEC):
            raise error(
                ErrorCode.AUDIO_CORRUPT,
                f"the file is cut off or has holes: it states {stated:.2f} s, and {self.seconds:.2f} s were found",
            )
        self._lose(missing if gapless else self._refused_sec)
        if self._lost_sec > forgiven:
            raise self._damaged()
        if self.seconds < self._limits.min_audio_sec:
            raise error(
                ErrorCode.AUDIO_EMPTY,
                f"the audio lasts {self.seconds:.3f} s; at least {self._limits.min_audio_sec:g} s are needed",
            )

    def _damaged(self) -> SoundfleetError:
        return error(
            ErrorCode.AUDIO_CORRUPT,
            f"the file is damaged: {self._lost_sec:.2f} s of its sound could not be decoded, by {self.seconds:.1f} s",
        )


def _seconds(packet: av.Packet[AudioStream]) -> float:
    return float((packet.duration or 0) * packet.time_base) if packet.time_base else 0.0


def _to_float(frame: AudioFrame) -> Samples:
    """Convert a frame of any sample format to float32 of shape (channels, n), full scale 1.0."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128.0) * np.float32(2**-7)
    if np.issubdtype(array.dtype, np.integer):
        bits = 8 * array.dtype.itemsize
        return array.astype(np.float32) * np.float32(2.0 ** (1 - bits))
    with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, which is refused
        return array.astype(np.float32)
