"""``backends``: what the fleet can run, and fetching a model's files ahead of its first job."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client import Producer
from ..settings import Settings
from . import options as o
from .console import ExitCode, emit, say
from .extras import worker_module
from .tables import backends_table

backends = typer.Typer(no_args_is_help=False)


@backends.callback(invoke_without_command=True)
def listing(context: typer.Context, as_json: o.Json = False) -> int:
    """List the backends and where each stands on the workers; or pull a model's files."""
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    with Producer.from_env() as fleet:
        specs, alive = fleet.backends(), fleet.workers()
    if as_json:
        for spec in specs:
            emit(spec)
    else:
        say(backends_table(specs, alive))
    return ExitCode.OK


@backends.command()
def pull(
    model: Annotated[str, typer.Argument(help="htdemucs, htdemucs_ft, ...; see: soundfleet backends")],
    as_json: o.Json = False,
) -> int:
    """Download a model's files to this machine's hub cache, where its workers look for them.

    What is there is not fetched again. A running worker notices new files within half a minute.
    """
    settings = Settings.load()
    source = worker_module("backends.contract").ModelConfig(offline=settings.offline)
    folder = worker_module("separation.loading").pull(model, source, quiet=as_json)
    if as_json:
        emit({"model": model, "folder": str(folder)})
    else:
        say(f"{model} is in {folder}")
    return ExitCode.OK
