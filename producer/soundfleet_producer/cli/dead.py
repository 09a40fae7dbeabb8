"""The dead letters: ``dead list``, ``show``, ``redrive`` and ``purge``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from soundfleet_schemas import SoundfleetError

from ..client import Producer
from . import options as o
from .console import ExitCode, complain, emit, err, exit_code_of, say
from .tables import letter_table, letters_table

dead = typer.Typer(no_args_is_help=True, help="Jobs that failed for good.")


@dead.command("list")
def list_letters(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20, as_json: o.Json = False
) -> int:
    """List the dead letters, the newest first."""
    with Producer.from_env() as fleet:
        letters = fleet.dead_letters(limit)
    if as_json:
        for letter in letters:
            emit(letter)
    elif letters:
        say(letters_table(letters))
    else:
        err.print("no dead letters")
    return ExitCode.OK


@dead.command()
def show(job_id: o.JobArgument, as_json: o.Json = False) -> int:
    """Show why a job failed, with what the worker knew."""
    with Producer.from_env() as fleet:
        letter = fleet.dead_letter(job_id)
    if as_json:
        emit(letter)
    else:
        say(letter_table(letter))
    return ExitCode.OK


@dead.command()
def redrive(
    job_id: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Id of the failed job.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every job that has a dead letter, up to 1,000.")] = False,
    as_json: o.Json = False,
) -> int:
    """Submit failed jobs again, as new jobs.

    Example: soundfleet dead redrive --all
    """
    if (job_id is None) != every:
        raise typer.BadParameter("give a JOB or --all")
    with Producer.from_env() as fleet:
        answers = fleet.redrive_all() if job_id is None else [fleet.redrive(job_id)]
    code = ExitCode.OK
    for answer in answers:
        if isinstance(answer, SoundfleetError):
            complain(answer.info, as_json)
            code = exit_code_of(answer)
        elif as_json:
            emit(answer._asdict())
        else:
            say(answer.id)
    return code


@dead.command()
def purge(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, as_json: o.Json = False
) -> int:
    """Delete all dead letters.

    The records of the failed jobs stay until their retention.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("say --yes where nobody can be asked")
        typer.confirm("Delete all dead letters?", abort=True, err=True)
    with Producer.from_env() as fleet:
        purged = fleet.purge_dead()
    if as_json:
        emit({"purged": purged})
    else:
        say(f"{purged} dead letters deleted")
    return ExitCode.OK
