"""One frozen Settings object, read once at the edge of a process: SOUNDFLEET_* variables over a TOML file.

S3 credentials, region and endpoint are the standard AWS_* variables, which boto3 reads itself.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from soundfleet_schemas import ErrorCode, Limits, SchedulerType, SoundfleetError, Strict, error

ENV_PREFIX = "SOUNDFLEET_"


class Settings(Strict, frozen=True, kw_only=True):
    """Configuration of one process of the fleet; every field is ``SOUNDFLEET_<NAME>`` or a key of the TOML file."""

    redis_url: str = "redis://127.0.0.1:6379/0"
    namespace: str = "soundfleet"
    bucket: str = "soundfleet"
    storage_prefix: str = ""
    """Put before every object key."""
    cdn_base: str = ""
    """When set, URLs are ``<cdn_base>/<key>`` instead of presigned ones."""
    client: str | None = None
    """Name that this process submits under."""
    backends: str = ""
    """Foreign backends of a worker: ``module:factory,...``."""
    only: str = ""
    """What a worker serves: ``kind.backend,...``; everything that it has when empty."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1."""
    slots: int = 4
    """Jobs that one worker holds at once."""
    grace_sec: float = 60.0
    """How long a draining worker goes on with running jobs."""
    model_dir: str = ""
    """Directory of models (demucs' ``--repo`` layout); the hub's cache when empty."""
    offline: bool = False
    """Never ask a model hub."""
    threads: int = 0
    """CPU threads of the engine; 0 is one per core."""
    memory_mb: int = 0
    """Memory budget of the engine; 0 is three quarters of the device's."""
    scratch_dir: str = ""
    """Where audio crosses the process border; /dev/shm or the temporary directory when empty."""
    metrics_port: int = 0
    log_format: str = "auto"
    """auto (console on a terminal, else json), console or json."""
    log_level: str = "info"

    default_backend: str = "musicgen"
    """Backend of a generation that names none."""
    ace_step_model_dir: str = "~/.cache/soundfleet/ace-step"
    ace_step_default_steps: int | None = None
    """None: the checkpoint's own."""
    ace_step_default_scheduler: SchedulerType = SchedulerType.Euler
    ace_step_default_guidance: float | None = None
    """None: the checkpoint's own."""

    limits: Limits = Limits()
    """A table in the TOML file; ``SOUNDFLEET_LIMITS_<NAME>`` in the environment."""

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, path: str | None = None) -> Settings:
        """Read the TOML file (``path``, else ``SOUNDFLEET_CONFIG``), then let the environment override it.

        Raises INVALID_SETTING for an unknown name, a wrong type, or an unreadable file.
        """
        env = os.environ if env is None else env
        path = path or env.get(f"{ENV_PREFIX}CONFIG")
        values = _read_toml(Path(path)) if path else {}
        limits = dict(values.pop("limits", {}))
        _override(values, limits, env)
        _known(limits, Limits.__struct_fields__, "limits.")
        try:
            return msgspec.convert({**values, "limits": limits}, cls, strict=False)
        except msgspec.ValidationError as exc:
            raise error(ErrorCode.INVALID_SETTING, f"{exc}") from None


def _override(values: dict[str, Any], limits: dict[str, Any], env: Mapping[str, str]) -> None:
    for name, text in env.items():
        if not name.startswith(ENV_PREFIX) or name == f"{ENV_PREFIX}CONFIG":
            continue
        field = name.removeprefix(ENV_PREFIX).lower()
        limit = field.removeprefix("limits_")
        if limit != field and limit in Limits.__struct_fields__:
            limits[limit] = text
        else:
            _known({field: text}, Settings.__struct_fields__, ENV_PREFIX)
            values[field] = text


def _known(values: Mapping[str, Any], fields: tuple[str, ...], where: str) -> None:
    for name in values:
        if name not in fields:
            raise _unknown(f"{where}{name}")


def _unknown(name: str) -> SoundfleetError:
    return error(ErrorCode.INVALID_SETTING, f"there is no setting {name}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise error(ErrorCode.INVALID_SETTING, f"cannot read {path}: {exc}") from None
