"""One measurement of one contender in a process of its own: ``contenders.py NAME VERB COUNT`` prints JSON."""

from __future__ import annotations

import importlib
import json
import sys
from types import ModuleType

MODULES = {"soundfleet": "ours", "taskiq": "peer_taskiq", "saq": "peer_saq", "dramatiq": "peer_dramatiq"}


def load(name: str) -> ModuleType:
    """The module of a contender."""
    return importlib.import_module(MODULES[name])


if __name__ == "__main__":
    _, chosen, verb, count = sys.argv
    print(json.dumps(getattr(load(chosen), verb)(int(count))))
