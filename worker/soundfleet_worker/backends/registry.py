"""Which backends an engine has: the project's own by name, and foreign ones by ``module:factory``.

Nothing heavy is imported here: a factory is made when the engine starts, its model when the first run needs it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from soundfleet_schemas import CATALOG, BackendSpec, BackendType, ErrorCode, SoundfleetError, error

from .contract import BackendFactory, ModelConfig

Maker = Callable[[BackendSpec, ModelConfig], BackendFactory]

_FAMILIES: dict[str, str] = {
    BackendType.Sketch: "soundfleet_worker.backends.sketch:SketchFactory",
    BackendType.MusicGen: "soundfleet_worker.backends.musicgen:MusicGenFactory",
    BackendType.AceStep: "soundfleet_worker.backends.ace_step:AceStepFactory",
    BackendType.Demucs: "soundfleet_worker.backends.demucs:DemucsFactory",
}
REGISTRY: dict[str, str] = {name: _FAMILIES[spec.type] for name, spec in CATALOG.items()}
"""The project's own backends: name in the catalogue -> what makes its factory from (spec, source)."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def build(foreign: str = "", only: Iterable[str] = (), source: ModelConfig | None = None) -> dict[str, BackendFactory]:
    """Return the factories by backend name: the project's own, then foreign ones, reduced to ``only``.

    ``foreign`` is ``module:factory,...``; a factory is called without arguments and returns one BackendFactory or
    several. ``only`` names services, ``kind.backend``. Raises INVALID_SETTING for a specification that cannot be
    imported or called, INVALID_BACKEND for one that gives no sound backend or for an unknown name in ``only``.
    """
    place = source or ModelConfig()
    wanted = set(only)
    factories = {}
    for name, target in REGISTRY.items():
        if not wanted or f"{CATALOG[name].kind}.{name}" in wanted:
            make: Maker = _resolve(target)
            factories[name] = make(CATALOG[name], place)
    for target in filter(None, (part.strip() for part in foreign.split(","))):
        for factory in _foreign(target):
            if factory.spec.backend in REGISTRY or factory.spec.backend in factories:
                raise error(ErrorCode.INVALID_BACKEND, f"{target} brings {factory.spec.backend}, which is taken")
            factories[factory.spec.backend] = factory
    return _reduce(factories, wanted)


def _reduce(factories: dict[str, BackendFactory], wanted: set[str]) -> dict[str, BackendFactory]:
    if not wanted:
        return factories
    by_service = {f"{factory.spec.kind}.{name}": name for name, factory in factories.items()}
    if unknown := wanted - set(by_service):
        names = ", ".join(sorted(unknown))
        raise error(ErrorCode.INVALID_BACKEND, f"no backend serves {names}; write kind.backend, like generate.sketch")
    return {name: factories[name] for service, name in by_service.items() if service in wanted}


def _foreign(target: str) -> list[BackendFactory]:
    make = _resolve(target)
    try:
        made = make()
    except SoundfleetError:
        raise
    except Exception as exc:  # foreign code may raise anything
        raise error(ErrorCode.INVALID_SETTING, f"backend {target} raised {type(exc).__name__}: {exc}") from exc
    several = list(made) if isinstance(made, list | tuple) else [made]
    for factory in several:
        if not isinstance(factory, BackendFactory):
            raise error(ErrorCode.INVALID_BACKEND, f"{target} gives {type(factory).__name__}, not a BackendFactory")
        spec = getattr(factory, "spec", None)
        if not isinstance(spec, BackendSpec) or not _NAME.fullmatch(spec.backend):
            raise error(
                ErrorCode.INVALID_BACKEND,
                f"{target} gives a backend without a proper spec",
                "Set spec to a BackendSpec whose name is of lower-case letters, digits, _ and -.",
            )
    return several


def _resolve(target: str) -> Any:
    module, separator, name = target.partition(":")
    if not (module and separator and name):
        raise error(ErrorCode.INVALID_SETTING, f"backend {target!r} must be module:factory")
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as exc:  # importing foreign code may raise anything
        raise error(ErrorCode.INVALID_SETTING, f"backend {target}: {type(exc).__name__}: {exc}") from exc
    if not callable(found):
        raise error(ErrorCode.INVALID_SETTING, f"backend {target} is not callable")
    return found
