"""From a file of any accepted format to stereo float32 at one sample rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import soxr

from soundfleet_schemas import Limits

from .blocks import Blocks
from .channels import Samples
from .info import AudioInfo
from .npy import StereoWriter
from .probe import Source, open_source

CHUNK = 1 << 16
"""Samples that are resampled and written at once."""
MAX_TRIM = 4_096
"""An MP4 and many an mp3 state their length without the encoder's padding; this many samples beyond it are cut."""


def decode(source: Path, destination: Path, sample_rate: int, limits: Limits) -> AudioInfo:
    """Decode the best audio stream of ``source`` to ``destination``, a ``.npy`` of float32, shape (2, samples).

    Mono is put on both sides, more than two channels are mixed down. With n samples in the file the array has
    round(n * sample_rate / file's rate). Memory does not grow with the length; ``destination`` appears only complete.
    Raises SOURCE_NOT_FOUND, FILE_TOO_LARGE, UNSUPPORTED_FORMAT, AUDIO_EMPTY, AUDIO_TOO_LONG or AUDIO_CORRUPT.
    """
    with open_source(source, limits) as opened, StereoWriter(destination) as writer:
        blocks = Blocks(opened, limits)
        for chunk in _resampled(_chunks(blocks), blocks, sample_rate):
            writer.write(chunk)
        length = _without_padding(blocks, opened)
        samples = round(length * sample_rate / blocks.sample_rate)
        writer.finish(samples)
    return msgspec.structs.replace(
        opened.info,
        duration_sec=length / blocks.sample_rate,
        sample_rate=blocks.sample_rate,
        channels=blocks.channels,
        bitrate=round(8 * opened.info.size_bytes * blocks.sample_rate / length),
        samples=samples,
    )


def _chunks(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Join the small blocks of a codec into chunks worth a call."""
    held: list[Samples] = []
    samples = 0
    for block in blocks:
        held.append(block)
        samples += block.shape[1]
        if samples >= CHUNK:
            yield np.concatenate(held, axis=1)
            held, samples = [], 0
    if held:
        yield np.concatenate(held, axis=1)


def _resampled(chunks: Iterator[Samples], blocks: Blocks, sample_rate: int) -> Iterator[Samples]:
    """Resample with soxr's very high quality; its delay is its own to make up for."""
    resampler: soxr.ResampleStream | None = None
    for chunk in chunks:
        if blocks.sample_rate == sample_rate:
            yield chunk
            continue
        if resampler is None:
            resampler = soxr.ResampleStream(blocks.sample_rate, sample_rate, chunk.shape[0], "float32", "VHQ")
        yield resampler.resample_chunk(np.ascontiguousarray(chunk.T)).T
    if resampler is not None:
        rest = np.zeros((0, min(blocks.channels, 2)), dtype=np.float32)
        yield resampler.resample_chunk(rest, last=True).T


def _without_padding(blocks: Blocks, source: Source) -> int:
    """Return the length at the file's rate, without what an MP4's or mp3's codec added after the end.

    A gapless mp3 has exactly its stated length: what little is missing at its end, and was forgiven, is silence.
    """
    if source.stated_sec is None or not (source.gapless or source.info.format == "m4a"):
        return blocks.samples
    stated = round(source.stated_sec * blocks.sample_rate)
    beyond = blocks.samples - stated
    return stated if 0 < beyond <= MAX_TRIM or (source.gapless and beyond < 0) else blocks.samples
