"""The backends on a terminal and as documents: what each can do, and where it stands on which worker."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO

import msgspec
import pytest
from rich.console import Console

from soundfleet_producer.cli.backends_view import standings, view
from soundfleet_schemas import CATALOG, Backend, BackendStatus, WorkerInfo

NAMES = ("htdemucs_mini", "htdemucs", "htdemucs_ft", "htdemucs_6s", "mdx_extra")
SPECS = [CATALOG[name] for name in NAMES]
PULL = "its first job downloads it; or ahead: soundfleet backends pull"


def worker(name: str, **statuses: tuple[BackendStatus, str | None, int | None]) -> WorkerInfo:
    """A worker on which all is ready but what is said."""
    backends = []
    for spec in SPECS:
        status, message, percent = statuses.get(spec.backend, (BackendStatus.Ready, None, None))
        backends.append(msgspec.structs.replace(Backend.of(spec, status, message), percent=percent))
    now = datetime.now(UTC)
    return WorkerInfo(
        id=name,
        host="here",
        pid=1,
        device="cpu",
        version="0",
        started_at=now,
        seen_at=now,
        capacity=4,
        statuses=tuple(backends),
    )


WORKERS = [
    worker(
        "one",
        htdemucs=(BackendStatus.Downloading, "955717e8.safetensors, 35 of 84 MB", 42),
        htdemucs_ft=(BackendStatus.NotInstalled, f"{PULL} htdemucs_ft", None),
        htdemucs_6s=(BackendStatus.NotInstalled, f"{PULL} htdemucs_6s", None),
    ),
    worker(
        "two",
        htdemucs_ft=(BackendStatus.NotInstalled, f"{PULL} htdemucs_ft", None),
        htdemucs_6s=(BackendStatus.NotInstalled, f"{PULL} htdemucs_6s", None),
        mdx_extra=(BackendStatus.Error, "BACKEND_NOT_READY: the hub is\x1b[31m away.", None),
    ),
]


def shown(width: int, longest_sec: float = 600.0) -> str:
    """What a terminal of this width shows."""
    console = Console(file=StringIO(), width=width)
    console.print(view(SPECS, WORKERS, longest_sec, width))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_shows_what_a_model_is_and_where_it_stands(width: int) -> None:
    """A line per model that does not break, and below the table why some are not ready."""
    lines = [line.rstrip() for line in shown(width).splitlines()]
    assert max(map(len, lines)) <= width
    rows = {line.split()[0]: line for line in lines[1:7] if not line.startswith(" ")}
    assert list(rows) == list(NAMES)
    assert "44.1  600 s    2 GB   8.80  1 downloading 42 %" in rows["htdemucs"]
    assert "256 MB      -  2 ready" in rows["htdemucs_mini"]
    assert "8.11*" in rows["mdx_extra"]
    text = " ".join(" ".join(lines).split())
    assert "htdemucs: downloading on one: 955717e8.safetensors, 35 of 84 MB" in text
    assert f"htdemucs_ft, htdemucs_6s: not installed on 2 workers: {PULL} MODEL" in text
    assert "* on Music Demixing Challenge 2021, hidden songs" in text
    assert "htdemucs, htdemucs_ft, htdemucs_6s, mdx_extra: for scientific purposes" in text


def test_a_wide_terminal_names_the_stems() -> None:
    """A narrow one counts them."""
    assert "drums, bass, other, vocals, guitar, piano" in shown(140)
    assert "6 stems" in shown(80)


def test_the_fleets_limit_is_shown_where_the_model_has_no_shorter_one() -> None:
    """Demucs takes audio of any length; what bounds it is set by the operator, up to three hours."""
    assert shown(80, 1_200.0).count("1200 s") == len(NAMES)
    assert shown(80, 1e6).count("10800 s") == len(NAMES)


def test_a_workers_message_does_not_steer_the_terminal() -> None:
    """It may quote what a server has said."""
    assert "\x1b" not in shown(80)


def test_documents_have_everything_of_a_backend_and_its_workers() -> None:
    """What the catalogue says, and where it stands on each worker."""
    documents = {str(document["backend"]): document for document in standings(SPECS, WORKERS)}
    htdemucs = documents["htdemucs"]
    assert htdemucs["sdr_db"] == 8.8
    assert htdemucs["sdr_on"] == "MUSDB18-HQ, test songs"
    assert htdemucs["repository"] == "adefossez/HTDemucs"
    assert htdemucs["workers"] == [
        {"worker": "one", "status": "downloading", "message": "955717e8.safetensors, 35 of 84 MB", "percent": 42},
        {"worker": "two", "status": "ready", "message": None, "percent": None},
    ]


def test_every_published_ratio_says_what_it_was_measured_on() -> None:
    """A number without its songs says nothing."""
    for spec in CATALOG.values():
        assert (spec.sdr_db is None) == (spec.sdr_on == "")
