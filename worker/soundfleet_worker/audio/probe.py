"""What a file is, read from its own bytes and never from its name.

A length is *stated* when it stands in the file (a WAV's data size, FLAC's sample count, MP4's durations, the last page
of an ogg, an mp3's Xing header). Raw AAC and an mp3 without that header state none: FFmpeg's guess from the bit rate is
shown, and nothing is judged by it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer

from soundfleet_schemas import ErrorCode, Limits, SoundfleetError, error

from .container import (
    CODECS,
    CONTAINERS,
    MAX_CHANNELS,
    MIN_SAMPLE_RATE,
    OPEN_OPTIONS,
    TAIL_HIDDEN,
    format_of,
    looks_like_audio,
    may_be_mp3,
)
from .headers import mp4_is_cut_off, ogg_is_cut_off, wav_pads_integers, wav_stated_sec
from .info import AudioInfo
from .mp3 import Stated, stated_by_mp3

PADDING_SEC = 0.1
"""What a codec may add to the music: its delay, and the rest of its last frame. Forgiven when lengths are judged."""


@dataclass(frozen=True)
class Source:
    """An opened file, its best audio stream, and what its header says."""

    container: InputContainer
    stream: AudioStream
    info: AudioInfo
    stated_sec: float | None
    """The length that the file itself states."""
    gapless: bool = False
    """An mp3 that states its length to the sample."""
    decoder: AudioCodecContext | None = None
    """In the place of the stream's own, where FFmpeg has chosen a wrong one."""


def probe(path: Path, limits: Limits) -> AudioInfo:
    """Read a file's header and first packet, in this process: for files that are trusted not to break FFmpeg.

    Raises SOURCE_NOT_FOUND, FILE_TOO_LARGE, UNSUPPORTED_FORMAT, AUDIO_EMPTY, AUDIO_TOO_LONG or AUDIO_CORRUPT.
    """
    with open_source(path, limits) as source:
        try:
            has_audio = any(packet.size for packet in source.container.demux(source.stream))
        except MemoryError:
            raise
        except av.error.FFmpegError as exc:
            raise error(
                ErrorCode.AUDIO_CORRUPT, f"the {source.info.format} file cannot be read: {exc.strerror}"
            ) from exc
        if not has_audio:
            raise empty(source.info.format)
        return source.info


@contextmanager
def open_source(path: Path, limits: Limits) -> Iterator[Source]:
    """Open a file for decoding after every check that its header allows; errors as of ``probe``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not block
    except OSError as exc:
        raise error(ErrorCode.SOURCE_NOT_FOUND, f"{path.name!r} cannot be opened: {exc.strerror}") from exc
    try:
        size = _checked_size(descriptor, path, limits)
        head = os.pread(descriptor, 16, 0)
        mp3 = stated_by_mp3(descriptor, size) if may_be_mp3(head) else None
        with _container(descriptor, size if mp3 is None else mp3.end, size, head, limits) as container:
            yield _source(container, descriptor, size, mp3, limits)
    finally:
        os.close(descriptor)


def empty(what: str) -> SoundfleetError:
    """Build the error of a file without samples."""
    return error(ErrorCode.AUDIO_EMPTY, f"the {what} file holds no audio samples")


def too_long(seconds: float, limits: Limits) -> SoundfleetError:
    """Build the error of audio that lasts, or already has lasted, ``seconds``."""
    return error(
        ErrorCode.AUDIO_TOO_LONG, f"the audio lasts over {seconds:.0f} s; the limit is {limits.max_audio_sec:g} s"
    )


def _unsupported(what: str, limits: Limits) -> SoundfleetError:
    """Build the error of a file that is of none of the accepted formats."""
    formats = ", ".join(limits.accepted)
    return error(ErrorCode.UNSUPPORTED_FORMAT, what, f"Give a file in one of these formats: {formats}.")


def _checked_size(descriptor: int, path: Path, limits: Limits) -> int:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise error(ErrorCode.SOURCE_NOT_FOUND, f"{path.name!r} is not a regular file")
    if status.st_size == 0:
        raise error(ErrorCode.AUDIO_EMPTY, f"{path.name!r} has 0 bytes")
    if status.st_size > limits.max_file_bytes:
        raise error(
            ErrorCode.FILE_TOO_LARGE, f"the file has {status.st_size} bytes; the limit is {limits.max_file_bytes}"
        )
    return status.st_size


def check_sample_rate(rate: int) -> None:
    """Raise UNSUPPORTED_FORMAT for a rate at which nobody stores music."""
    if rate < MIN_SAMPLE_RATE:
        raise error(
            ErrorCode.UNSUPPORTED_FORMAT,
            f"the file has {rate} samples a second; at least {MIN_SAMPLE_RATE} are needed",
            "Export the file at 44100 Hz.",
        )


def _container(descriptor: int, end: int, size: int, head: bytes, limits: Limits) -> InputContainer:
    """Open the file up to ``end``."""
    # Through the descriptor: FFmpeg sees no name that it could believe or read as an address.
    name, options = f"/dev/fd/{descriptor}", OPEN_OPTIONS
    if end < size:
        name, options = f"subfile,,start,0,end,{end},,:{name}", TAIL_HIDDEN
    try:
        return av.open(name, "r", options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except av.error.FFmpegError as exc:  # among them EINVAL: the demuxer is not in the list
        if looks_like_audio(head):
            raise error(ErrorCode.AUDIO_CORRUPT, f"the file's header cannot be read: {exc.strerror}") from exc
        raise _unsupported("the file's content is of no audio format that can be read", limits) from exc


def _source(container: InputContainer, descriptor: int, size: int, mp3: Stated | None, limits: Limits) -> Source:
    word = CONTAINERS[container.format.name]
    stream, decoder = _best_stream(container, word, descriptor, size, limits)
    named = format_of(word, stream.codec_context.name)
    if named not in limits.accepted:
        raise _unsupported(f"the file is {named}, which is not accepted here", limits)
    if not 1 <= stream.channels <= MAX_CHANNELS:
        raise error(ErrorCode.UNSUPPORTED_FORMAT, f"the file has {stream.channels} channels, over {MAX_CHANNELS}")
    if not stream.sample_rate:
        raise error(ErrorCode.AUDIO_CORRUPT, "the header gives no sample rate")
    check_sample_rate(stream.sample_rate)
    if word == "ogg" and ogg_is_cut_off(descriptor, size):
        raise error(ErrorCode.AUDIO_CORRUPT, "the file is cut off: its last ogg page is not complete")
    if word == "m4a" and mp4_is_cut_off(descriptor, size):
        raise error(ErrorCode.AUDIO_CORRUPT, "the file is cut off: its last box is not complete")
    stated = _mp3_sec(mp3) if word == "mp3" else _stated(container, stream, descriptor, size)
    duration = _duration(container, stream) if word != "mp3" or stated is None else stated
    if stated is not None and stated > limits.max_audio_sec + PADDING_SEC:
        raise too_long(stated, limits)
    info = AudioInfo(
        format=word,
        codec=(decoder or stream.codec_context).name,
        duration_sec=duration or 0.0,
        sample_rate=stream.sample_rate,
        channels=stream.channels,
        size_bytes=size,
        bitrate=round(8 * size / duration) if duration else None,
    )
    gapless = word == "mp3" and mp3 is not None and mp3.gapless
    return Source(container, stream, info, stated, gapless, decoder)


def _best_stream(
    container: InputContainer, word: str, descriptor: int, size: int, limits: Limits
) -> tuple[AudioStream, AudioCodecContext | None]:
    """Return the stream, and the decoder that it needs where that is not its own."""
    stream = container.streams.best("audio")
    if stream is None:
        if _has_video(container):
            raise error(ErrorCode.UNSUPPORTED_FORMAT, f"the {word} file holds pictures and no sound")
        raise error(ErrorCode.AUDIO_EMPTY, f"the {word} file has no audio track")
    assert isinstance(stream, AudioStream)
    context = stream.codec_context
    if context is not None and context.name == "pcm_f24le" and wav_pads_integers(descriptor, size):
        return stream, _integers_like(context)
    if context is None or context.name not in CODECS:
        name = "an unknown codec" if context is None else f"the codec {context.name}"
        raise _unsupported(f"the {word} file's audio is in {name}, which is not accepted", limits)
    return stream, None


def _integers_like(context: AudioCodecContext) -> AudioCodecContext:
    decoder = AudioCodecContext.create("pcm_s32le", "r")
    decoder.layout, decoder.sample_rate = context.layout, context.sample_rate
    return decoder


def _has_video(container: InputContainer) -> bool:
    """Whether there are moving pictures; a cover is none."""
    return any(not video.disposition & av.stream.Disposition.attached_pic for video in container.streams.video)


def _mp3_sec(mp3: Stated | None) -> float | None:
    return None if mp3 is None else mp3.samples / mp3.sample_rate


def _stated(container: InputContainer, stream: AudioStream, descriptor: int, size: int) -> float | None:
    """Seconds that a file other than an mp3 states."""
    word, duration = CONTAINERS[container.format.name], _duration(container, stream)
    if word == "aac":
        return None
    if word == "wav":  # FFmpeg believes the file's size rather than its header
        return wav_stated_sec(descriptor, size) if stream.codec_context.name.startswith("pcm_") else None
    if word == "webm" and (stream.duration is not None or _has_video(container)):
        return None  # it states one length for all; where a stream has its own, FFmpeg has guessed
    return duration


def _duration(container: InputContainer, stream: AudioStream) -> float | None:
    """Seconds that FFmpeg knows or guesses."""
    if stream.duration is not None and stream.time_base is not None:
        return max(0.0, float(stream.duration * stream.time_base))
    if container.duration is not None:
        return max(0.0, container.duration / av.time_base)
    return None
