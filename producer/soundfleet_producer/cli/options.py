"""The options that commands share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from soundfleet_schemas import BitDepth, OutputFormat, Priority, Sources

FILES, QUEUE, FOLLOWING = "The files", "In the queue", "Following the job"
SECONDS = "SEC"
LONGEST_SEC = 366 * 86_400.0
"""What any option in seconds takes at most: longer than a fleet keeps anything."""

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, one document per line, and nothing else on stdout.")]


def _option(*names: str, panel: str, text: str, metavar: str | None = None, callback: Any = None) -> Any:
    return typer.Option(*names, rich_help_panel=panel, help=text, metavar=metavar, callback=callback)


def _seconds(value: float | None) -> float | None:
    """Refuse what is no length of time: not a number, endless, negative, or longer than a calendar."""
    if value is not None and not 0 <= value <= LONGEST_SEC:
        raise typer.BadParameter(f"{value:g} is not between 0 and {LONGEST_SEC:.0f} seconds")
    return value


Watch = Annotated[bool, _option("--watch", "-w", panel=FOLLOWING, text="Follow the job to its end.")]
Out = Annotated[
    Path | None,
    _option("--out", "-o", panel=FOLLOWING, text="Follow the job and download its files into DIR.", metavar="DIR"),
]
Timeout = Annotated[
    float | None,
    _option(
        "--timeout",
        panel=FOLLOWING,
        text="Follow for at most so long; the job goes on.",
        metavar=SECONDS,
        callback=_seconds,
    ),
]

Then = Annotated[
    list[str] | None,
    _option(
        "--then",
        panel=FOLLOWING,
        text="Also run this on the output: 'separate --model htdemucs'. May be given more than once.",
        metavar="COMMAND",
    ),
]

Format = Annotated[OutputFormat, _option("--format", "-f", panel=FILES, text="Format of the audio.")]
Bits = Annotated[BitDepth | None, _option("--bit-depth", panel=FILES, text="Of wav and flac; 24 by default.")]
Bitrate = Annotated[
    int | None,
    _option("--bitrate", panel=FILES, text="Of mp3: a step of the format, 64 to 320; 320 by default.", metavar="KBPS"),
]

TwoStems = Annotated[
    str | None, typer.Option("--two-stems", metavar="STEM", help="This stem and the rest of the mix: no_STEM.")
]
KeepRate = Annotated[
    bool, _option("--keep-sample-rate", panel=FILES, text="Deliver at the source's own rate, not at the model's.")
]
References = Annotated[
    list[str] | None,
    typer.Option("--reference", metavar="STEM=SOURCE", help="Measure against a true stem; may be given repeatedly."),
]

PriorityOption = Annotated[Priority, _option("--priority", panel=QUEUE, text="High jobs go before normal ones.")]
Client = Annotated[
    str | None, _option("--client", panel=QUEUE, text="Who asks; SOUNDFLEET_CLIENT by default.", metavar="NAME")
]
ExpiresIn = Annotated[
    float | None,
    _option(
        "--expires-in",
        panel=QUEUE,
        text="Drop the job if it has not started by then.",
        metavar=SECONDS,
        callback=_seconds,
    ),
]
TimeLimit = Annotated[
    float | None,
    _option("--time-limit", panel=QUEUE, text="End a run that takes longer.", metavar=SECONDS, callback=_seconds),
]
Cache = Annotated[
    bool, _option("--cache/--no-cache", panel=QUEUE, text="Whether finished work of the same request may answer.")
]
JobId = Annotated[
    str | None, _option("--id", panel=QUEUE, text="Of the job; the same id is the same job, once.", metavar="UUID")
]


def references(given: list[str] | None) -> Sources:
    """Read what ``--reference`` was given as: sources by stem."""
    pairs = [text.partition("=") for text in given or ()]
    for stem, equals, source in pairs:
        if not (stem and equals and source):
            raise typer.BadParameter(f"--reference {stem}{equals}{source} is not STEM=SOURCE")
    named: Sources = {stem: source for stem, _, source in pairs}
    if len(named) < len(pairs):
        raise typer.BadParameter("--reference names a stem twice")
    return named


def expires_at(expires_in: float | None) -> datetime | None:
    """The moment ``expires_in`` seconds from now."""
    return None if expires_in is None else datetime.now(UTC) + timedelta(seconds=expires_in)
