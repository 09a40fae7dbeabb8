"""One frozen Settings object, read once at the edge of a process: SOUNDFLEET_* variables over a TOML file.

S3 credentials, region and endpoint are the standard AWS_* variables, which boto3 reads itself.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from soundfleet_schemas import (
    FETCH_WEB,
    ErrorCode,
    Limits,
    Precision,
    SchedulerType,
    SoundfleetError,
    Strict,
    check_limits,
    error,
)

ENV_PREFIX = "SOUNDFLEET_"
LIMITS_PREFIX = "LIMITS_"
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT|PORT)(_\w+)?$")
"""What Kubernetes adds to every container for a service whose name begins with ours."""


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
    """What a worker's engine serves: ``kind.backend,...``; everything that it has when empty. ``fetch.web`` by itself
    is a worker without an engine, which only fetches."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1."""
    slots: Annotated[int, msgspec.Meta(ge=1)] = 4
    """Jobs that one worker holds at once on its engine."""
    fetch_slots: Annotated[int, msgspec.Meta(ge=0)] = 4
    """Jobs whose sources a worker downloads at once, besides those on its engine; 0 leaves that to other workers."""
    grace_sec: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    """How long a draining worker goes on with running jobs."""
    model_dir: str = ""
    """Directory of models (demucs' ``--repo`` layout); the hub's cache when empty."""
    offline: bool = False
    """Never ask a model hub."""
    pull: str = ""
    """Models that a worker pulls from the hub as it starts, ``htdemucs,htdemucs_ft``; others when a job needs them."""
    licences: str = "MIT,for scientific purposes"
    """Licences of weights that a worker pulls when a job needs them, as ``soundfleet backends`` names them; ``*`` is
    any. What ``pull`` and ``only`` name, and what is on the machine, has the operator's word already."""
    pull_again_sec: Annotated[float, msgspec.Meta(ge=0)] = 180.0
    """How long a worker offers nothing of a model that it could not pull."""
    precision: Precision = Precision.Auto
    """In which floats the models compute: auto, fp32, bf16, fp16."""
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    """CPU threads of the engine; 0 is one per core."""
    memory_mb: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Memory budget of the engine; 0 is three quarters of the device's."""
    scratch_dir: str = ""
    """Where audio crosses the process border; /dev/shm or the temporary directory when empty."""
    fetch_networks: str = ""
    """Networks (CIDR, with commas) from which sources are fetched besides the public internet, on any port."""
    video_hosts: str = ""
    """Hosts besides YouTube's whose pages yt-dlp reads: ``HOST,*.HOST,...``."""
    video_cookies: str = ""
    """A Netscape cookies file that yt-dlp shows to video hosts; copied before each use and never written."""
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

    @property
    def services(self) -> tuple[str, ...]:
        """What ``only`` names."""
        return tuple(service for part in self.only.split(",") if (service := part.strip()))

    @property
    def fetches_only(self) -> bool:
        """Whether a worker has no engine."""
        return set(self.services) == {FETCH_WEB}

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, path: str | None = None) -> Settings:
        """Read the TOML file (``path``, else ``SOUNDFLEET_CONFIG``), then let the environment override it.

        Raises INVALID_SETTING for an unknown name, a wrong type, limits that cannot work, or an unreadable file.
        """
        env = os.environ if env is None else env
        path = path or env.get(f"{ENV_PREFIX}CONFIG")
        values = _read_toml(Path(path)) if path else {}
        limits = values.pop("limits", {})
        if not isinstance(limits, dict):
            raise error(ErrorCode.INVALID_SETTING, f"limits in {path} is not a table")
        _override(values, limits, env)
        _known(values, tuple(field for field in cls.__struct_fields__ if field != "limits"))
        _known(limits, Limits.__struct_fields__, "limits.")
        try:
            settings = msgspec.convert({**values, "limits": limits}, cls, strict=False)
        except msgspec.ValidationError as exc:
            raise error(ErrorCode.INVALID_SETTING, f"{exc}") from None
        check_limits(settings.limits)
        return settings


def _override(values: dict[str, Any], limits: dict[str, Any], env: Mapping[str, str]) -> None:
    """Let the variables that are set, and not empty, take the place of the file's values."""
    for variable, text in env.items():
        name = variable.removeprefix(ENV_PREFIX)
        if name == variable or name == "CONFIG" or not text:
            continue
        field, limit = name.lower(), name.removeprefix(LIMITS_PREFIX).lower()
        if field in Settings.__struct_fields__ and field != "limits":
            values[field] = text
        elif name.startswith(LIMITS_PREFIX) and limit in Limits.__struct_fields__:
            limits[limit] = text
        elif not _SERVICE_LINK.search(name):
            raise _unknown(variable, _VARIABLES)


def _known(values: Mapping[str, Any], fields: tuple[str, ...], where: str = "") -> None:
    for name in values:
        if name not in fields:
            raise _unknown(f"{where}{name}", [f"{where}{field}" for field in fields])


def _unknown(name: str, names: Sequence[str]) -> SoundfleetError:
    near = difflib.get_close_matches(name, names, 1)
    return error(ErrorCode.INVALID_SETTING, f"there is no setting {name}" + (f"; is it {near[0]}?" if near else ""))


_VARIABLES = [
    *(f"{ENV_PREFIX}{field.upper()}" for field in Settings.__struct_fields__ if field != "limits"),
    *(f"{ENV_PREFIX}{LIMITS_PREFIX}{limit.upper()}" for limit in Limits.__struct_fields__),
]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise error(ErrorCode.INVALID_SETTING, f"cannot read {path}: {exc}") from None
