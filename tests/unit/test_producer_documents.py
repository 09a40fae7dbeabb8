"""What the documentation for operators says is what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundfleet_producer.cli.console import EXIT_CODES, ExitCode
from soundfleet_producer.settings import Settings
from soundfleet_schemas import Limits

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("name", [*(n for n in Settings.__struct_fields__ if n != "limits"), *Limits.__struct_fields__])
def test_every_setting_is_listed(name: str) -> None:
    """An operator finds each by its name."""
    assert f"`{name}`" in OPERATIONS


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_listed_in_the_docs_and_in_help(code: ExitCode) -> None:
    """Scripts rely on them."""
    assert f"\n| {int(code)} |" in OPERATIONS
    assert f" {int(code)} " in EXIT_CODES
