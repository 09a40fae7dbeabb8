"""What was measured, in the words of the command line."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import msgspec
import pytest
import typer
from rich.console import Console

from soundfleet_producer.cli.measures import result_view
from soundfleet_producer.cli.options import references
from soundfleet_producer.cli.tables import Delivered
from soundfleet_schemas import JobResult

GOLDEN = Path(__file__).parents[1] / "golden"


def shown(result: JobResult) -> str:
    """The view of a result on a terminal of eighty columns."""
    console = Console(file=StringIO(), width=80)
    console.print(result_view(Delivered(result, Path("out"))))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def golden(name: str) -> JobResult:
    return msgspec.json.decode((GOLDEN / f"job_result.{name}.json").read_bytes(), type=JobResult)


def test_quality_and_cost_are_under_the_files() -> None:
    """Each number with what it is, and the method beside the score."""
    text = shown(golden("measured"))
    assert "0.88 of 1, partly estimated (si-sdr of bass, else estimate-1)" in text
    assert "bass 0.75 (4.8 dB), no_bass 1.00, free of artifacts 0.94" in text
    assert "10 s (prepare 0.5, infer 8.2); after 1.5 s in the queue" in text
    assert "GPU 50 %, 4096 MB of GPU memory" in text
    assert "waveforms" in text
    assert max(map(len, text.splitlines())) <= 80


def test_results_of_earlier_releases_are_shown_as_far_as_they_go() -> None:
    """Scores in their fields, no waveforms, and whose cost it was when finished work answered."""
    text = shown(golden("separation"))
    assert "vocals 0.90, drums 0.85, bass 0.75, free of artifacts 0.75" in text
    assert "by the job that made it" in text
    assert "waveforms" not in text
    bare = msgspec.structs.replace(golden("separation"), quality_metrics=None, processing_metrics=None)
    assert "quality" not in shown(bare).lower().replace("quality is estimated", "")


def test_a_measured_result_says_against_what() -> None:
    """Without the word estimate."""
    result = golden("measured")
    assert result.quality_metrics is not None
    measured = msgspec.structs.replace(result.quality_metrics, method="si-sdr")
    text = shown(msgspec.structs.replace(result, quality_metrics=measured))
    assert "measured against the references (si-sdr)" in text
    assert "estimate" not in text


def test_references_are_read_as_sources_by_stem() -> None:
    """A source may hold equals signs itself."""
    assert references(None) == {}
    given = ["vocals=a.wav", "bass=https://example.org/b?x=1"]
    assert references(given) == {"vocals": "a.wav", "bass": "https://example.org/b?x=1"}


@pytest.mark.parametrize("given", [["vocals"], ["=a.wav"], ["vocals="], ["vocals=a", "vocals=b"]])
def test_a_reference_that_names_no_stem_or_one_twice_is_a_mistake(given: list[str]) -> None:
    """Said before anything is submitted."""
    with pytest.raises(typer.BadParameter):
        references(given)
