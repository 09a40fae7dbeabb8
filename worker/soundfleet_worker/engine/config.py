"""What an engine process is told when it is spawned."""

from __future__ import annotations

from pathlib import Path

import msgspec

from soundfleet_schemas import ErrorCode, Precision, error

from ..backends.contract import ModelConfig


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of one engine, passed as JSON on its command line."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    threads: int = 0
    """CPU threads; 0 is one per core."""
    memory_mb: int = 0
    """Memory budget for models and runs; 0 is three quarters of the device's, if that is free."""
    model_dir: str = ""
    """Directory of models in Demucs' layout; the hub's cache when empty."""
    ace_step_dir: str = ""
    """Directory of ACE-Step's checkpoints, one folder each."""
    offline: bool = False
    """Never ask a model hub."""
    precision: Precision = Precision.Auto
    """In which floats the models compute."""
    foreign: str = ""
    """Foreign backends: ``module:factory,...``."""
    only: tuple[str, ...] = ()
    """Services to offer, ``kind.backend``; all when empty."""
    progress_every_sec: float = 0.05
    """Least time between two progress messages of a run."""

    @property
    def models(self) -> ModelConfig:
        """What the project's own backends are told."""
        folder = Path(self.model_dir).expanduser() if self.model_dir else None
        ace_step = Path(self.ace_step_dir).expanduser() if self.ace_step_dir else None
        return ModelConfig(folder, ace_step_dir=ace_step, offline=self.offline, precision=self.precision)


_DECODER = msgspec.json.Decoder(EngineConfig)


def read_config(text: str) -> EngineConfig:
    """Decode the command line's JSON; INVALID_SETTING names the field that is wrong."""
    try:
        return _DECODER.decode(text)
    except msgspec.DecodeError as exc:
        raise error(ErrorCode.INVALID_SETTING, f"engine configuration: {exc}") from None
