"""The commands together, and the one place where an error becomes an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer

from soundfleet_schemas import ErrorCode, SoundfleetError, error

from . import demo, doctor, fleet, follow, generate, separate, top
from .backends import backends
from .console import EXIT_CODES, ExitCode, complain, complain_of_usage, exit_code_of, say
from .dead import dead
from .local import local

ClickException: Any = typer.BadParameter.__mro__[2]
"""Of the click that typer itself uses, which may be its own copy."""

app = typer.Typer(
    name="soundfleet",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


@app.callback(invoke_without_command=True)
def soundfleet(
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """A fleet of GPU workers for audio: generate music, split songs into stems.

    Settings are SOUNDFLEET_* variables or a TOML file named by SOUNDFLEET_CONFIG; S3 takes the AWS_* variables.
    """
    if show_version:
        say(version("soundfleet"))
        raise typer.Exit


for _panel, _commands in {
    "Jobs": (
        generate.generate,
        separate.separate,
        follow.watch,
        follow.status,
        follow.jobs,
        follow.cancel,
        follow.download,
    ),
    "Fleet": (top.top, fleet.workers, fleet.worker, doctor.doctor),
    "On this machine": (demo.demo,),
}.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(dead, name="dead", rich_help_panel="Jobs")
app.add_typer(backends, name="backends", rich_help_panel="Fleet")
app.add_typer(local, name="local", rich_help_panel="On this machine")


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every expected error is one line on stderr."""
    try:
        code = app(args=list(arguments), prog_name="soundfleet", standalone_mode=False)
    except SoundfleetError as exc:
        complain(exc.info, "--json" in arguments)
        return exit_code_of(exc)
    except ClickException as exc:
        if exc.format_message():  # there is none where the help itself was the answer
            usage = error(ErrorCode.INVALID_OPTION, exc.format_message(), "See: soundfleet --help").info
            complain_of_usage(usage, "--json" in arguments)
        return ExitCode.USAGE
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    return int(code or ExitCode.OK)
