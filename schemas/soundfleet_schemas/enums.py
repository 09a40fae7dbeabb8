"""The closed lists of the data models. Member names are the data models'; values are what travels."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a job does."""

    generate = "generate"
    separate = "separate"


class BackendType(StrEnum):
    """Families of models. Foreign backends bring their own family name."""

    Sketch = "sketch"
    MusicGen = "musicgen"
    AceStep = "ace_step"
    Demucs = "demucs"


class BackendStatus(StrEnum):
    """Where a backend stands on one worker."""

    NotInstalled = "not_installed"
    Downloading = "downloading"
    Loading = "loading"
    Ready = "ready"
    Error = "error"


class SchedulerType(StrEnum):
    """ODE/SDE solvers of ACE-Step."""

    Euler = "euler"
    Heun = "heun"
    PingPong = "pingpong"


class Task(StrEnum):
    """What ACE-Step does; all but the first work on ``source``."""

    text2music = "text2music"
    cover = "cover"
    """Play the source anew in another style."""
    repaint = "repaint"
    """Make a part of the source anew."""
    extract = "extract"
    """Take one track out of the source."""
    lego = "lego"
    """Add one track to the source."""
    complete = "complete"
    """Add the tracks that the source lacks."""


class Priority(StrEnum):
    """Which lane of its backend a job waits in."""

    High = "high"
    Normal = "normal"


class InputType(StrEnum):
    """Where the audio of a separation comes from."""

    file_upload = "file_upload"
    youtube_url = "youtube_url"
    url = "url"
    s3 = "s3"
    job = "job"


class Quality(StrEnum):
    """Compute presets of separation (see ``options.PRESETS``)."""

    fast = "fast"
    balanced = "balanced"
    best = "best"


class OutputFormat(StrEnum):
    """Audio formats that the fleet writes."""

    wav = "wav"
    mp3 = "mp3"
    flac = "flac"


class BitDepth(StrEnum):
    """Sample format of lossless output: two integer widths, and 32-bit float (wav only)."""

    int16 = "16"
    int24 = "24"
    float32 = "float"


class Precision(StrEnum):
    """In which floats a worker's models compute; audio is float32 everywhere."""

    Auto = "auto"
    Float32 = "fp32"
    BFloat16 = "bf16"
    Float16 = "fp16"


class Stage(StrEnum):
    """The stages of a run, in order; the same words stand in progress, metrics and logs."""

    fetch = "fetch"
    """The download of what lies behind web addresses; its steps are KiB."""
    prepare = "prepare"
    load = "load"
    infer = "infer"
    decode = "decode"
    """Of a generation: from the model's latents or tokens to audio."""
    deliver = "deliver"
