"""The command line in a test's own process."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from soundfleet_producer.cli.app import run


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Every line of stdout as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """Runs commands against the test's corner of the stack."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> Said:
        self._capture.readouterr()
        code = run(arguments)
        return Said(code, *self._capture.readouterr())
