"""Tables on terminals of several widths: what cannot be done without is whole on all of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from soundfleet_producer.cli import tables
from soundfleet_producer.cli.measures import result_view
from soundfleet_producer.cli.tables import Delivered, job_table, jobs_table
from soundfleet_schemas import Job

GOLDEN = Path(__file__).parents[1] / "golden"
JOBS = [msgspec.json.decode((GOLDEN / f"job.{state}.json").read_bytes(), type=Job) for state in ("completed", "failed")]


def shown(width: int, monkeypatch: pytest.MonkeyPatch, *, of: str) -> list[str]:
    """The lines of a table on a terminal of so many columns."""
    console = Console(width=width, color_system=None, highlight=False)
    monkeypatch.setattr(tables, "out", console)
    result = JOBS[0].result
    assert result is not None
    made = {"jobs": jobs_table(JOBS), "job": job_table(JOBS[1]), "result": result_view(Delivered(result, None))}[of]
    with console.capture() as capture:
        console.print(made)
    return capture.get().splitlines()


@pytest.mark.parametrize("of", ["jobs", "job", "result"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_wider_than_the_terminal(width: int, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that wraps by itself is no table any more."""
    assert max(map(len, shown(width, monkeypatch, of=of))) <= width


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_list_of_jobs_has_whole_ids_and_states(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To be copied, and to be read; further columns come where there is room."""
    header, *lines = shown(width, monkeypatch, of="jobs")
    for job, line in zip(JOBS, lines, strict=True):
        assert job.id in line
        assert f" {job.status} " in line
    assert ("model" in header) == (width >= 100)


@pytest.mark.parametrize("width", [60, 120])
def test_a_result_has_room_for_where_its_files_lie(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path of sixty characters is no column of ten."""
    lines = shown(width, monkeypatch, of="result")
    assert ("peak" in lines[0]) == (width >= 100)
    result = JOBS[0].result
    assert result is not None
    files = list(result.files.values())
    rows = next(number for number, line in enumerate(lines) if not line.strip() or line.startswith(("quality", "took")))
    assert rows - 1 <= 3 * len(files)
