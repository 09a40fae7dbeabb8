"""Which sample rates and bit rates the output formats hold. Imports no audio library: the supervisor asks, too."""

from __future__ import annotations

from soundfleet_schemas import ErrorCode, OutputFormat, StemSeparationOptions, error

MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MP3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_HIGHEST = {OutputFormat.wav: 768_000, OutputFormat.flac: 655_350, OutputFormat.mp3: 48_000}
"""Hz; FLAC's is the format's, and no device writes more than wav's."""


def most_mp3_kbps(sample_rate: int) -> int:
    """The highest bit rate of layer III: in MPEG-1, in MPEG-2 below 32 kHz, in MPEG-2.5 below 16 kHz."""
    return 320 if sample_rate >= 32_000 else 160 if sample_rate >= 16_000 else 64


def check_rate(options: StemSeparationOptions, source_rate: int) -> None:
    """Raise INVALID_OPTION when ``keep_sample_rate`` asks for what the output format cannot hold."""
    if not options.keep_sample_rate:
        return
    form, kbps = options.output_format, options.bitrate_kbps
    if source_rate > _HIGHEST[form] or (form == OutputFormat.mp3 and source_rate not in MP3_RATES):
        raise error(
            ErrorCode.INVALID_OPTION,
            f"keep_sample_rate: {form} cannot hold the source's {source_rate} Hz",
            "Leave keep_sample_rate out, or ask for flac or wav.",
        )
    if kbps is not None and kbps > most_mp3_kbps(source_rate):
        raise error(
            ErrorCode.INVALID_OPTION,
            f"bitrate_kbps is {kbps}; mp3 takes at most {most_mp3_kbps(source_rate)} at the source's {source_rate} Hz",
            "Leave keep_sample_rate or bitrate_kbps out.",
        )
