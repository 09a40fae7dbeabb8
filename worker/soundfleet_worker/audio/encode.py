"""From float32 samples to a delivered file: wav, flac or mp3, with the same bytes for the same samples."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from numpy.typing import NDArray

from soundfleet_schemas import BitDepth, ErrorCode, OutputFormat, Record, error

from .channels import Samples
from .levels import Meter
from .peaks import Peaks, Waveform
from .rates import MP3_KBPS, MP3_RATES, most_mp3_kbps
from .resample import chunks, resampled

DEFAULT_BIT_DEPTH = BitDepth.int24
DEFAULT_MP3_KBPS = 320

_MUXER_OPTIONS = {"fflags": "+bitexact"}
"""No version strings: an upgrade of FFmpeg that changes no samples changes no bytes."""


class Encoded(Record, frozen=True, kw_only=True):
    """What became of the samples."""

    size: int
    """Bytes of the file."""
    sha256: str
    clipped: int
    """Samples beyond full scale, which an integer format or mp3 cannot hold. Always 0 for float."""
    peak_dbfs: float
    """Of the samples as they were given."""
    rms_dbfs: float
    bitrate: int | None = None
    """Bits per second, of compressed formats."""
    samples: int
    """Per channel, as they were written."""
    waveform: Waveform


@dataclass(frozen=True, slots=True)
class Rate:
    """Another sample rate to deliver at, and how many samples there are to be at it."""

    hertz: int
    samples: int


@dataclass(frozen=True)
class _Shape:
    """How FFmpeg is to write: its names of container, codec and sample format; and the integers' width."""

    container: str
    codec: str
    sample_format: str
    bits: int | None = None
    bit_rate: int | None = None


def encode(
    audio: NDArray[np.float32],
    path: Path,
    sample_rate: int,
    output_format: OutputFormat,
    bit_depth: BitDepth | None = None,
    bitrate_kbps: int | None = None,
    to: Rate | None = None,
) -> Encoded:
    """Write ``audio``, float32 of shape (1 or 2, n), full scale 1.0; it may be memory-mapped.

    ``bit_depth`` is of wav and flac (default 24), ``bitrate_kbps`` of mp3 (default 320; the format's nearest is taken).
    ``to`` resamples on the way. Decoding the file gives n samples again (or as many as ``to`` says), of mp3 too. On an
    error no file is left. Raises INVALID_OPTION for what a format cannot hold, AUDIO_EMPTY without samples,
    MODEL_INFERENCE_FAILED for samples that are not finite.
    """
    blocks = blocks_at(audio, sample_rate, to)
    target = Rate(sample_rate, audio.shape[1]) if to is None else to
    shape = _shape(target.hertz, output_format, bit_depth, bitrate_kbps)
    if audio.shape[1] == 0 or target.samples == 0:
        raise error(ErrorCode.AUDIO_EMPTY, f"{path.name} would hold no samples")
    meter, peaks = Meter(), Peaks(target.samples, target.hertz)
    try:
        clipped = _write(_measured(blocks, meter, peaks), path, target.hertz, audio.shape[0], shape)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except BaseException:  # also a cancellation: half a file must not look like a whole one
        path.unlink(missing_ok=True)
        raise
    size = path.stat().st_size
    average = round(8 * size * target.hertz / target.samples) if output_format is OutputFormat.flac else None
    return Encoded(
        size=size,
        sha256=digest,
        clipped=clipped,
        peak_dbfs=meter.peak_dbfs,
        rms_dbfs=meter.rms_dbfs,
        bitrate=shape.bit_rate or average,
        samples=target.samples,
        waveform=peaks.waveform(),
    )


def blocks_at(audio: Samples, sample_rate: int, to: Rate | None) -> Iterator[Samples]:
    """The blocks of audio as they are delivered: at their own rate, or at another."""
    if to is None or (to.hertz, to.samples) == (sample_rate, audio.shape[1]):
        return chunks(audio)
    return resampled(audio, sample_rate, to.hertz, to.samples)


def _shape(
    sample_rate: int, output_format: OutputFormat, bit_depth: BitDepth | None, bitrate_kbps: int | None
) -> _Shape:
    depth = bit_depth or DEFAULT_BIT_DEPTH
    match output_format, depth:
        case OutputFormat.mp3, _:
            return _Shape("mp3", "libmp3lame", "fltp", bit_rate=1_000 * _mp3_kbps(sample_rate, bitrate_kbps))
        case OutputFormat.wav, BitDepth.int16:
            return _Shape("wav", "pcm_s16le", "s16", 16)
        case OutputFormat.wav, BitDepth.int24:
            return _Shape("wav", "pcm_s24le", "s32", 24)
        case OutputFormat.wav, BitDepth.float32:
            return _Shape("wav", "pcm_f32le", "flt")
        case OutputFormat.flac, BitDepth.int16:
            return _Shape("flac", "flac", "s16", 16)
        case OutputFormat.flac, BitDepth.int24:
            return _Shape("flac", "flac", "s32", 24)
    raise error(ErrorCode.INVALID_OPTION, f"{output_format} cannot hold {depth} samples")


def _mp3_kbps(sample_rate: int, wanted: int | None) -> int:
    """Return the bit rate that the format has nearest to ``wanted``."""
    if sample_rate not in MP3_RATES:
        raise error(ErrorCode.INVALID_OPTION, f"mp3 cannot hold {sample_rate} Hz", "Use wav or flac.")
    most = most_mp3_kbps(sample_rate)
    target = DEFAULT_MP3_KBPS if wanted is None else wanted
    return min((kbps for kbps in MP3_KBPS if kbps <= most), key=lambda kbps: abs(kbps - target))


def _write(blocks: Iterable[Samples], path: Path, sample_rate: int, channels: int, shape: _Shape) -> int:
    """Encode everything; return how many samples were clipped."""
    clipped = position = 0
    with av.open(str(path.absolute()), "w", format=shape.container, options=_MUXER_OPTIONS) as container:
        stream = _stream(container, sample_rate, channels, shape)
        for chunk in blocks:
            values, over = _quantize(chunk, shape.bits) if shape.sample_format != "flt" else (chunk, 0)
            clipped += over
            planar = shape.sample_format.endswith("p")
            data = values if planar else values.T.reshape(1, -1)
            layout = stream.layout.name
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=shape.sample_format, layout=layout)
            frame.sample_rate = sample_rate
            frame.pts = position
            position += chunk.shape[1]
            container.mux(stream.encode(frame))
        rest = stream.encode(None)
        if shape.container == "mp3":
            _state_padding(rest, stream.frame_size)
        container.mux(rest)
    return clipped


def _state_padding(packets: list[av.Packet[AudioStream]], frame_size: int) -> None:
    """Tell the muxer how many samples of silence the last frames of an mp3 hold.

    The encoder says it of each packet; FFmpeg's muxer writes the largest, a decoder needs the sum.
    """
    padding = sum(frame_size - (packet.duration or 0) for packet in packets)
    if padding > 0 and packets[-1].has_sidedata("skip_samples"):
        skip = packets[-1].get_sidedata("skip_samples")
        skip.update(struct.pack("<IIH", 0, padding, 0))  # at the start, at the end, and no reasons
        packets[-1].set_sidedata(skip)


def _stream(container: OutputContainer, sample_rate: int, channels: int, shape: _Shape) -> AudioStream:
    layout = {1: "mono", 2: "stereo"}[channels]
    stream = container.add_stream(shape.codec, rate=sample_rate, layout=layout)
    assert isinstance(stream, AudioStream)
    context = stream.codec_context
    context.format = shape.sample_format
    context.thread_count = 1
    if shape.bit_rate is not None:
        context.bit_rate = shape.bit_rate
    return stream


def _measured(blocks: Iterable[Samples], meter: Meter, peaks: Peaks) -> Iterator[Samples]:
    """Pass blocks on and measure them; refuse samples that are no numbers."""
    for block in blocks:
        if not np.isfinite(block).all():
            raise error(
                ErrorCode.MODEL_INFERENCE_FAILED, "the model's output holds samples that are not finite numbers"
            )
        meter.add(block)
        peaks.add(block)
        yield block


def _quantize(chunk: Samples, bits: int | None) -> tuple[NDArray[np.float32] | NDArray[np.signedinteger], int]:
    """Clip to full scale and round to ``bits``; None keeps floats. Return also how many samples were clipped.

    A float32 times a power of two is exact, and so is rounding it below 2^24, so nothing but the rounding is lost.
    """
    clipped = int(np.count_nonzero(np.abs(chunk) > 1.0))
    if bits is None:
        return np.clip(chunk, -1.0, 1.0), clipped
    scale = np.float32(2 ** (bits - 1))
    values = np.clip(np.rint(chunk * scale), -scale, scale - 1)
    if bits == 16:
        return values.astype(np.int16), clipped
    return values.astype(np.int32) << 8, clipped  # FFmpeg takes 24 bits from the upper part of 32
