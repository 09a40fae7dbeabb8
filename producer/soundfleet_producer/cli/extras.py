"""The worker's packages, which a producer may lack."""

from __future__ import annotations

import importlib
from typing import Any

from soundfleet_schemas import ErrorCode, error


def worker_module(name: str) -> Any:
    """Import ``soundfleet_worker.<name>``; raises MISSING_DEPENDENCY when the worker extra is not installed."""
    try:
        return importlib.import_module(f"soundfleet_worker.{name}")
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] == "soundfleet_worker":
            raise  # it is in every distribution: its absence is a bug, not a missing extra
        raise error(
            ErrorCode.MISSING_DEPENDENCY, f"a worker needs {exc.name}", "Run: pip install 'soundfleet[worker]'"
        ) from None
