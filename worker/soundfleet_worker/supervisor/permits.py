"""Which published models a worker may pull for a job by itself: licences that the operator accepts, sizes that fit."""

from __future__ import annotations

from soundfleet_producer.settings import Settings
from soundfleet_schemas import CATALOG, ErrorCode, error

from ..models.published import PUBLISHED

_ANY = "*"


class Permits:
    """The operator's word. To name a model in ``pull`` or ``only`` is to ask for it: nothing keeps that one away."""

    def __init__(self, settings: Settings) -> None:
        named = [service.rpartition(".")[2] for service in settings.services]
        self._asked_for = frozenset([*read_models(settings.pull), *named])
        self._licences = _read_licences(settings.licences)

    def bar(self, name: str, budget_mb: int) -> str | None:
        """Say why a model's files are not to be pulled by a job, and what to do; None when they may be.

        ``budget_mb`` is the engine's, 0 while it is not known.
        """
        if name in self._asked_for:
            return None
        spec = CATALOG[name]
        if _ANY not in self._licences and _short(spec.licence) not in self._licences:
            accept = f"accept it in SOUNDFLEET_LICENCES, or: soundfleet backends pull {name}"
            return f"its weights have the licence {spec.licence}, which this worker does not accept: {accept}"
        if 0 < budget_mb < spec.memory_mb:
            return f"it needs {spec.memory_mb:,} MB, and the engine's budget is {budget_mb:,} MB: SOUNDFLEET_MEMORY_MB"
        return None


def read_models(text: str) -> list[str]:
    """Read the setting ``pull``; raises INVALID_SETTING for a name that no hub has."""
    names = [name for part in text.split(",") if (name := part.strip())]
    for name in names:
        if name not in PUBLISHED:
            known = "it needs no files" if name in CATALOG else f"there are {', '.join(PUBLISHED)}"
            raise error(ErrorCode.INVALID_SETTING, f"pull names {name}, which is not on the model hub: {known}")
    return list(dict.fromkeys(names))


def _read_licences(text: str) -> frozenset[str]:
    """Read the setting ``licences``; raises INVALID_SETTING for one that no model has."""
    known = sorted({_short(CATALOG[name].licence) for name in PUBLISHED} | {_short("MIT")})
    licences = frozenset(_short(part) for part in text.split(",") if part.strip())
    for licence in sorted(licences - {*known, _ANY}):
        raise error(ErrorCode.INVALID_SETTING, f"licences names {licence}: there are {', '.join(known)} and {_ANY}")
    return licences


def _short(licence: str) -> str:
    """A licence without what is said of it in brackets, in small letters."""
    return licence.partition("(")[0].strip().lower()
