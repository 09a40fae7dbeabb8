"""How a run's arrays become files: the plan of their encoding, and one file's encoding, in a thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from soundfleet_schemas import AudioFile, BitDepth, GenerationRequest, JobRequest, encode
from soundfleet_schemas.options import OutputPlan, plan_output

from ..engine.wire import Finished, OutputFile
from .prepare import Work

if TYPE_CHECKING:
    from ..audio.encode import Rate

PEAKS_SUFFIX = ".peaks.json"


class Delivered(NamedTuple):
    """One encoded file."""

    name: str
    """``track``, or the stem."""
    file: AudioFile
    clipped: int
    """Samples that its format could not hold."""
    peaks: bytes
    """Its waveform, as a document for players."""


def plan_of(request: JobRequest) -> OutputPlan:
    """How the files of a request are encoded."""
    asked = request if isinstance(request, GenerationRequest) else request.options
    return plan_output(asked.output_format, asked.bit_depth, asked.bitrate_kbps)


def kept_rate(work: Work) -> Rate | None:
    """The source's own rate and length, where the stems are to have them."""
    request = work.request
    if isinstance(request, GenerationRequest) or not request.options.keep_sample_rate:
        return None
    from ..audio.encode import Rate

    return Rate(work.input_rate, round(work.audio_sec * work.input_rate))


def first_over(made: Finished, to: Rate | None = None) -> str | None:
    """Name the first output that goes beyond full scale, where integers clip and stems no longer add up."""
    from ..audio.encode import blocks_at
    from ..audio.levels import exceeds_full_scale
    from ..audio.mapped import open_mapped

    for output in made.outputs:
        if exceeds_full_scale(blocks_at(open_mapped(output.path), made.sample_rate, to)):
            return output.name
    return None


def as_float(made: Finished, over: str) -> Finished:
    """Tell in the result that all files of a run are float because ``over`` needs it."""
    warning = (
        f"{over} goes beyond full scale, so every file of this job is 32-bit float; for integers that do not clip, ask "
        "for normalize, and for integers in any case, ask for a bit_depth"
    )
    return msgspec.structs.replace(
        made, parameters=made.parameters | {"bit_depth": BitDepth.float32}, warnings=(*made.warnings, warning)
    )


def encode_file(
    output: OutputFile, path: Path, sample_rate: int, plan: OutputPlan, output_dir: str, to: Rate | None = None
) -> Delivered:
    """Encode one array, which is memory-mapped and removed afterwards."""
    from ..audio.encode import encode as encode_audio
    from ..audio.mapped import open_mapped

    source = Path(output.path)
    audio = open_mapped(source)
    encoded = encode_audio(audio, path, sample_rate, plan.output_format, plan.bit_depth, plan.bitrate_kbps, to)
    source.unlink(missing_ok=True)
    hertz = sample_rate if to is None else to.hertz
    file = AudioFile(
        filename=path.name,
        path=output_dir + path.name,
        size=encoded.size,
        duration=encoded.samples / hertz,
        format=plan.output_format,
        sample_rate=hertz,
        bitrate=encoded.bitrate,
        sha256=encoded.sha256,
        peak_dbfs=encoded.peak_dbfs,
        rms_dbfs=encoded.rms_dbfs,
        peaks_path=output_dir + output.name + PEAKS_SUFFIX,
    )
    return Delivered(output.name, file, encoded.clipped, encode(encoded.waveform))
