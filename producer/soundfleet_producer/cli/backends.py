"""``backends``: what the fleet can run, and fetching a model's files ahead of its first job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..client import Producer
from ..settings import Settings
from . import options as o
from .backends_view import standings, view
from .console import ExitCode, emit, out, say
from .extras import worker_module
from .pulling import PullProgress

backends = typer.Typer(no_args_is_help=False)


@backends.callback(invoke_without_command=True)
def listing(context: typer.Context, as_json: o.Json = False) -> int:
    """List the backends and where each stands on the workers; or pull models' files.

    With --json one document per backend: all that is true of it everywhere, and under "workers" where it stands on
    each.
    """
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    with Producer.from_env() as fleet:
        specs, alive, longest_sec = fleet.backends(), fleet.workers(), fleet.settings.limits.max_audio_sec
    if as_json:
        for document in standings(specs, alive):
            emit(document)
    else:
        say(view(specs, alive, longest_sec, out.width))
    return ExitCode.OK


@backends.command()
def pull(
    models: Annotated[list[str], typer.Argument(help="htdemucs, htdemucs_ft, ...; see: soundfleet backends")],
    directory: Annotated[
        Path | None,
        typer.Option("--dir", file_okay=False, help="Put the files here, for SOUNDFLEET_MODEL_DIR on other machines."),
    ] = None,
    as_json: o.Json = False,
) -> int:
    """Download models' files to this machine's hub cache, where its workers look for them.

    What is there is checked and not fetched again; what was cut off is gone on with. A running worker notices new files
    within half a minute. On a machine without a network: pull with --dir elsewhere, and copy that directory.
    """
    config = worker_module("backends.contract").ModelConfig(offline=Settings.load().offline)
    published, fetch = worker_module("models.published"), worker_module("models").pull
    for model in models:  # a misspelt name is told before the first gigabyte
        published.published(model)
    for model in dict.fromkeys(models):
        folder = _pull(model, config, directory, fetch, shown=not as_json)
        if as_json:
            emit({"model": model, "folder": str(folder)})
        else:
            say(f"{model} is in {folder}")
    return ExitCode.OK


def _pull(model: str, config: Any, directory: Path | None, fetch: Callable[..., Path], *, shown: bool) -> Path:
    with PullProgress(model, shown) as progress:
        return fetch(model, config, progress.show, directory=directory)
