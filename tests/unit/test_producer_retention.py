"""Which lifecycle rule decides how long the outputs of jobs live, and what doctor says of it."""

from __future__ import annotations

from typing import Any

import pytest

from soundfleet_producer.cli.doctor import retention
from soundfleet_producer.storage import shortest_expiry
from soundfleet_schemas import Limits


def rule(days: int, prefix: str = "", status: str = "Enabled") -> dict[str, Any]:
    return {"Status": status, "Filter": {"Prefix": prefix}, "Expiration": {"Days": days}}


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([], None),
        ([rule(90)], 90),
        ([rule(90), rule(30, "fleet/")], 30),
        ([rule(1, "fleet/uploads/"), rule(90, "fleet/jobs/")], 90),
        ([rule(7, status="Disabled")], None),
        ([{"Status": "Enabled", "Prefix": "", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}], None),
    ],
)
def test_the_shortest_enabled_rule_for_outputs_counts(rules: list[dict[str, Any]], days: int | None) -> None:
    """Rules for other prefixes, disabled ones and those of unfinished uploads do not."""
    assert shortest_expiry(rules, "fleet/jobs/") == days


@pytest.mark.parametrize(("days", "verdict"), [(None, "warning"), (29, "failed"), (30, "ok"), (90, "ok")])
def test_objects_must_outlive_the_records_that_name_them(days: int | None, verdict: str) -> None:
    """Records of completed jobs live 30 days by default."""
    assert retention(days, Limits()).verdict == verdict
