"""Options of a separation, and what they come to: the presets are compute presets."""

from __future__ import annotations

from typing import NamedTuple

from .base import Record, Strict
from .enums import BitDepth, OutputFormat, Quality
from .spec import BackendSpec


class StemSeparationOptions(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may ask of a separation. ``None`` means: the preset's or the model's own value."""

    model: str | None = None
    quality: Quality = Quality.balanced
    output_format: OutputFormat = OutputFormat.wav
    bit_depth: BitDepth | None = None
    """Of wav (default 24, and float where 24 bits would clip) and flac (default 24; no float)."""
    bitrate_kbps: int | None = None
    """Of mp3: one of ``MP3_BITRATES_KBPS``, default 320."""
    normalize: bool = False
    """One gain for all stems, so that the loudest peaks at -1 dBFS. Their balance stays; their sum is scaled."""
    remove_vocals: bool = False
    """Karaoke: deliver ``instrumental`` (all but the vocals) instead of the stems."""
    stems: tuple[str, ...] | None = None
    """Which stems to deliver; all by default."""
    two_stems: str | None = None
    """Deliver this stem and ``no_<stem>``, the rest of the mix."""
    segment_duration: float | None = None
    """Seconds of audio that the model sees at once; at most the model's own."""
    overlap_duration: float | None = None
    """Seconds by which neighbouring segments overlap; less than the segment."""
    shifts: int | None = None
    """Random time shifts to average, 0 to 10: each costs a whole pass."""
    seed: int = 0
    """Of the random shifts; 0 when there are none."""
    keep_sample_rate: bool = False
    """Deliver at the source's own rate, as long as the source to the sample, instead of at the model's."""


class Preset(NamedTuple):
    """What a quality stands for."""

    model: str
    shifts: int
    overlap: float
    """Share of the segment."""


PRESETS: dict[Quality, Preset] = {
    Quality.fast: Preset("htdemucs", 0, 0.1),
    Quality.balanced: Preset("htdemucs", 1, 0.25),
    Quality.best: Preset("htdemucs_ft", 2, 0.25),
}

INSTRUMENTAL = "instrumental"
REST = "no_"
"""Prefix of what is left of a mix without one stem."""
MAX_SHIFTS = 10
MIN_SEGMENT_SEC = 1.0
"""Positive, as the data model asks, and long enough for a model to hear something."""
MAX_OVERLAP = 0.9
"""Share of the segment."""
MAX_EFFORT = 40.0
"""Most seconds that a model may work on per second of audio: three times what 10 shifts cost at the usual overlap."""
MP3_BITRATES_KBPS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
"""Steps of MPEG-1 layer III; an encoder would round anything else."""
DEFAULT_MP3_BITRATE_KBPS = 320
DEFAULT_BIT_DEPTH = BitDepth.int24


def model_of(options: StemSeparationOptions) -> str:
    """Name the model that the options come to."""
    return PRESETS[options.quality].model if options.model is None else options.model


class SeparationPlan(Record, frozen=True, kw_only=True):
    """The effective parameters of a separation, as they act and as the result reports them."""

    model: str
    model_version: str
    segment_sec: float
    overlap: float
    """overlap_duration / segment_duration, 0 to below 1."""
    shifts: int
    seed: int
    """Of the shifts; 0 when there are none."""
    stems: tuple[str, ...]
    """What is delivered, in the model's order; ``("instrumental",)`` for karaoke, a stem and its rest for two."""
    normalize: bool

    @property
    def computed(self) -> tuple[str, ...]:
        """The stems of the model that the delivered ones are made of."""
        if self.stems == (INSTRUMENTAL,):
            return ("vocals",)
        return self.stems[:1] if self.rest else self.stems

    @property
    def rest(self) -> str | None:
        """The delivered name of the mix without the one computed stem; None when stems are delivered as such."""
        last = self.stems[-1]
        return last if last == INSTRUMENTAL or last == f"{REST}{self.stems[0]}" else None


class OutputPlan(NamedTuple):
    """The effective encoding of every file that a job delivers; the field that does not act is None."""

    output_format: OutputFormat
    bit_depth: BitDepth | None
    bitrate_kbps: int | None
    widens: bool = False
    """Whether float is written where the bit depth would clip: of wav, when no depth was asked for."""


def plan_output(output_format: OutputFormat, bit_depth: BitDepth | None, bitrate_kbps: int | None) -> OutputPlan:
    """Resolve the validated output fields of a request against their defaults."""
    if output_format is OutputFormat.mp3:
        return OutputPlan(output_format, None, bitrate_kbps or DEFAULT_MP3_BITRATE_KBPS)
    widens = output_format is OutputFormat.wav and bit_depth is None
    return OutputPlan(output_format, bit_depth or DEFAULT_BIT_DEPTH, None, widens)


def effort(plan: SeparationPlan, spec: BackendSpec) -> float:
    """Return how many seconds a model works on per second of audio: passes, overlap, and segments cut short.

    A segment shorter than the model's own counts as a whole one, because HTDemucs pads it to that.
    """
    padding = spec.segment_sec / plan.segment_sec if spec.segment_sec else 1.0
    return max(plan.shifts, 1) * padding / (1 - plan.overlap)


def plan_separation(options: StemSeparationOptions, spec: BackendSpec) -> SeparationPlan:
    """Resolve validated options against a model's own values (see ``validation.check_options``)."""
    preset = PRESETS[options.quality]
    segment_sec = float(options.segment_duration or spec.segment_sec or 0.0)
    overlap = preset.overlap if options.overlap_duration is None else abs(options.overlap_duration) / segment_sec
    shifts = preset.shifts if options.shifts is None else options.shifts
    return SeparationPlan(
        model=spec.backend,
        model_version=spec.model_version,
        segment_sec=segment_sec,
        overlap=overlap,
        shifts=shifts,
        seed=options.seed if shifts else 0,
        stems=_delivered(options, spec),
        normalize=options.normalize,
    )


def _delivered(options: StemSeparationOptions, spec: BackendSpec) -> tuple[str, ...]:
    if options.remove_vocals:
        return (INSTRUMENTAL,)
    if options.two_stems is not None:
        return options.two_stems, f"{REST}{options.two_stems}"
    wanted = spec.stems if options.stems is None else options.stems
    return tuple(stem for stem in spec.stems if stem in wanted)
