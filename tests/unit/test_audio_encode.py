"""What is delivered holds exactly the samples that were given, as far as its format can."""

from __future__ import annotations

import hashlib
import math
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests import media

from soundfleet_schemas import BitDepth, ErrorCode, Limits, OutputFormat, SoundfleetError
from soundfleet_worker.audio.decode import decode
from soundfleet_worker.audio.encode import Encoded, encode
from soundfleet_worker.audio.levels import snr_db
from soundfleet_worker.audio.probe import probe
from soundfleet_worker.audio.resample import CHUNK

LIMITS = Limits(min_audio_sec=0.0, max_file_bytes=1 << 30)
WAV, FLAC, MP3 = OutputFormat.wav, OutputFormat.flac, OutputFormat.mp3
LOSSLESS = [
    (WAV, BitDepth.int16),
    (WAV, BitDepth.int24),
    (WAV, BitDepth.float32),
    (FLAC, BitDepth.int16),
    (FLAC, BitDepth.int24),
]
ALL = [*LOSSLESS, (MP3, None)]
LENGTHS = [1, 47, 576, 1_151, 1_152, 1_153, 4_096, 4_607, 4_609, 4_620, CHUNK - 1, CHUNK, CHUNK + 1, 100_003]


def decoded(path: Path, rate: int = 44_100) -> media.Signal:
    decode(path, path.with_name("decoded.npy"), rate, LIMITS)
    return np.array(np.load(path.with_name("decoded.npy")))


@pytest.mark.parametrize(("output_format", "depth"), ALL)
def test_the_number_of_samples_is_exact(tmp_path: Path, output_format: OutputFormat, depth: BitDepth | None) -> None:
    """For lengths around every frame and chunk size; an mp3 says what its encoder added at both ends."""
    audio = media.noise(2.5)
    path = tmp_path / "some"
    for samples in LENGTHS:
        encode(audio[:, :samples], path, 44_100, output_format, depth)
        assert decoded(path).shape == (2, samples)


@pytest.mark.parametrize("rate", [16_000, 22_050, 32_000, 48_000])
def test_an_mp3_is_exact_at_every_rate_of_the_models(tmp_path: Path, rate: int) -> None:
    """Below 32 kHz its frames are half as long."""
    for samples in (rate, rate + 46, rate + 577):
        encode(media.noise(2.0, rate)[:, :samples], tmp_path / "some", rate, MP3)
        assert decoded(tmp_path / "some", rate).shape[1] == samples


@pytest.mark.parametrize(("output_format", "depth"), LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_formats_round_to_the_nearest_step(
    tmp_path: Path, output_format: OutputFormat, depth: BitDepth, channels: int
) -> None:
    """Half a step at most, and nothing at all for float."""
    audio = media.music(1.6, channels=channels)
    encode(audio, tmp_path / "some", 44_100, output_format, depth)
    wrong = float(np.abs(decoded(tmp_path / "some")[:channels].astype(np.float64) - audio).max())
    step = {BitDepth.int16: 2.0**-15, BitDepth.int24: 2.0**-23, BitDepth.float32: 0.0}[depth]
    assert wrong <= step / 2
    assert probe(tmp_path / "some", LIMITS).channels == channels


@pytest.mark.parametrize(("output_format", "depth"), LOSSLESS)
def test_samples_that_the_format_can_hold_survive_twice(
    tmp_path: Path, output_format: OutputFormat, depth: BitDepth
) -> None:
    """Encoding what was decoded changes no bit, full scale included."""
    steps = 2 ** (15 if depth is BitDepth.int16 else 23)
    ends = np.array([[-1.0, 0.0, 1 - 1 / steps], [1 / steps, -1 / steps, -1 + 1 / steps]], dtype=np.float32)
    audio = np.tile(ends, (1, 2_000))
    facts = encode(audio, tmp_path / "some", 44_100, output_format, depth)
    assert np.array_equal(decoded(tmp_path / "some"), audio)
    assert facts.clipped == 0


def test_an_mp3_is_in_time_and_close(tmp_path: Path) -> None:
    """At its default of 320 kbit/s."""
    audio = media.music(2.0)
    facts = encode(audio, tmp_path / "some.mp3", 44_100, MP3)
    assert snr_db(audio, decoded(tmp_path / "some.mp3")) > 30.0
    assert facts.bitrate == 320_000
    assert facts.size == pytest.approx(2.0 * 320_000 / 8, rel=0.05)


@pytest.mark.parametrize(("wanted", "rate", "actual"), [(64, 44_100, 64), (100, 44_100, 96), (320, 22_050, 160)])
def test_an_mp3_takes_the_nearest_bit_rate_that_exists(tmp_path: Path, wanted: int, rate: int, actual: int) -> None:
    """And the facts tell which."""
    facts = encode(media.noise(2.0, rate), tmp_path / "some.mp3", rate, MP3, bitrate_kbps=wanted)
    assert facts.bitrate == 1_000 * actual
    assert facts.size == pytest.approx(2.0 * 1_000 * actual / 8, rel=0.05)


@pytest.mark.parametrize(("output_format", "depth"), ALL)
def test_clipped_samples_are_counted_and_do_not_wrap(
    tmp_path: Path, output_format: OutputFormat, depth: BitDepth | None
) -> None:
    """Float has no full scale to clip at. The levels are those of what was given."""
    audio = media.sine(1.0, gain=0.5)
    audio[0, 1_000:1_010] = 1.5
    audio[1, 2_000:2_003] = -2.0
    facts = encode(audio, tmp_path / "some", 44_100, output_format, depth)
    assert facts.clipped == (0 if depth is BitDepth.float32 else 13)
    assert facts.peak_dbfs == pytest.approx(20 * math.log10(2.0), abs=1e-6)
    result = decoded(tmp_path / "some")
    if depth in (BitDepth.int16, BitDepth.int24):
        assert result[0, 1_005] == pytest.approx(1.0, abs=2**-15)
        assert result[1, 2_001] == -1.0
    if depth is BitDepth.float32:
        assert np.array_equal(result, audio)


@pytest.mark.parametrize(("output_format", "depth"), ALL)
def test_the_same_samples_give_the_same_bytes(
    tmp_path: Path, output_format: OutputFormat, depth: BitDepth | None
) -> None:
    """In this process, from a memory-mapped file, and in another process."""
    audio = media.music(1.7)
    np.save(tmp_path / "audio.npy", audio)
    facts = encode(audio, tmp_path / "one", 44_100, output_format, depth)
    assert facts == encode(
        np.load(tmp_path / "audio.npy", mmap_mode="r"), tmp_path / "two", 44_100, output_format, depth
    )
    program = (
        "import sys, numpy; from pathlib import Path; from soundfleet_schemas import *; "
        "from soundfleet_worker.audio.encode import encode; depth = sys.argv[4]; "
        "encode(numpy.load(sys.argv[1], mmap_mode='r'), Path(sys.argv[2]), 44_100, OutputFormat(sys.argv[3]), "
        "BitDepth(depth) if depth else None)"
    )
    arguments = [str(tmp_path / "audio.npy"), str(tmp_path / "three"), output_format, depth or ""]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == (tmp_path / "three").read_bytes()
    assert not re.search(rb"Lav[cf]\d", (tmp_path / "one").read_bytes()), "FFmpeg's version"


@pytest.mark.parametrize(("output_format", "depth"), ALL)
def test_the_facts_are_those_of_the_file(tmp_path: Path, output_format: OutputFormat, depth: BitDepth | None) -> None:
    """Size, hash, levels and bit rate."""
    audio = media.music(1.0)
    path = tmp_path / "some"
    facts = encode(audio, path, 44_100, output_format, depth)
    raw = path.read_bytes()
    assert (facts.size, facts.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert facts.peak_dbfs == pytest.approx(20 * math.log10(float(np.abs(audio).max())), abs=1e-6)
    assert facts.rms_dbfs == pytest.approx(10 * math.log10(float(np.mean(audio.astype(np.float64) ** 2))), abs=1e-6)
    assert (facts.bitrate is None) is (output_format is WAV)
    info = probe(path, LIMITS)
    assert (info.format, info.sample_rate, info.channels) == (output_format, 44_100, 2)
    assert info.duration_sec == pytest.approx(1.0, abs=0.001)


def test_the_default_of_lossless_formats_is_24_bits(tmp_path: Path) -> None:
    """The same bytes as when it is asked for."""
    audio = media.music(0.5)
    for output_format in (WAV, FLAC):
        default = encode(audio, tmp_path / "default", 44_100, output_format)
        assert default.sha256 == encode(audio, tmp_path / "24", 44_100, output_format, BitDepth.int24).sha256


def test_a_wav_has_the_header_that_every_player_reads(tmp_path: Path) -> None:
    """RIFF with its sizes right; 16 bits as plain PCM."""
    encode(media.sine(0.5), tmp_path / "some.wav", 44_100, WAV, BitDepth.int16)
    raw = (tmp_path / "some.wav").read_bytes()
    riff, size, wave, form, _, tag, channels, rate = struct.unpack("<4sI4s4sIHHI", raw[:28])
    assert (riff, wave, form, tag, channels, rate) == (b"RIFF", b"WAVE", b"fmt ", 1, 2, 44_100)
    assert size == len(raw) - 8


@pytest.mark.parametrize(
    ("rate", "output_format", "depth", "named"),
    [(96_000, MP3, None, "96000 Hz"), (44_100, FLAC, BitDepth.float32, "flac cannot hold float")],
)
def test_what_a_format_cannot_hold_is_refused(
    tmp_path: Path, rate: int, output_format: OutputFormat, depth: BitDepth | None, named: str
) -> None:
    """Before a file is made."""
    with pytest.raises(SoundfleetError, match=named) as caught:
        encode(media.sine(0.1, rate), tmp_path / "some", rate, output_format, depth)
    assert caught.value.code is ErrorCode.INVALID_OPTION
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_the_models_failure(tmp_path: Path, bad: float) -> None:
    """Found in any chunk, and no half file stays."""
    audio = media.sine(3.0)
    audio[0, CHUNK + 5] = bad
    with pytest.raises(SoundfleetError) as caught:
        encode(audio, tmp_path / "some", 44_100, WAV)
    assert caught.value.code is ErrorCode.MODEL_INFERENCE_FAILED
    assert not list(tmp_path.iterdir())


def test_no_samples_make_no_file(tmp_path: Path) -> None:
    """A stem without samples is a mistake somewhere."""
    with pytest.raises(SoundfleetError) as caught:
        encode(np.zeros((2, 0), np.float32), tmp_path / "some", 44_100, WAV)
    assert caught.value.code is ErrorCode.AUDIO_EMPTY
    assert not list(tmp_path.iterdir())


def test_silence_can_be_delivered(tmp_path: Path) -> None:
    """A stem may be silent; its level is a number."""
    facts = encode(np.zeros((2, 44_100), np.float32), tmp_path / "some", 44_100, FLAC)
    assert isinstance(facts, Encoded)
    assert facts.peak_dbfs == facts.rms_dbfs == -200.0
    assert not decoded(tmp_path / "some").any()
