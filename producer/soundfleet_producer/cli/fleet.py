"""The fleet itself: ``workers`` and ``backends``, and running a ``worker``."""

from __future__ import annotations

import importlib
from typing import Annotated

import msgspec
import typer

from soundfleet_schemas import ErrorCode, error

from ..client import Producer
from ..settings import Settings
from . import options as o
from .console import ExitCode, emit, err, say
from .tables import backends_table, workers_table


def workers(as_json: o.Json = False) -> int:
    """List the workers that are alive."""
    with Producer.from_env() as fleet:
        alive = fleet.workers()
    if as_json:
        for worker in alive:
            emit(worker)
    elif alive:
        say(workers_table(alive))
    else:
        err.print("no workers; start one with: soundfleet worker")
    return ExitCode.OK


def backends(as_json: o.Json = False) -> int:
    """List the backends and where each stands on the workers."""
    with Producer.from_env() as fleet:
        specs, alive = fleet.backends(), fleet.workers()
    if as_json:
        for spec in specs:
            emit(spec)
    else:
        say(backends_table(specs, alive))
    return ExitCode.OK


def worker(
    only: Annotated[
        str | None, typer.Option(help="Serve only these: generate.musicgen,separate.htdemucs; all by default.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1; SOUNDFLEET_DEVICE by default.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Jobs held at once; SOUNDFLEET_SLOTS by default.")] = None,
) -> int:
    """Run a worker on this machine.

    SIGTERM or Ctrl-C lets running jobs finish within the grace period and hands the rest back.

    Example: soundfleet worker --only separate.htdemucs,separate.htdemucs_ft --device cuda:1
    """
    given = {"only": only, "device": device, "slots": slots}
    settings = msgspec.structs.replace(
        Settings.load(), **{name: value for name, value in given.items() if value is not None}
    )
    try:
        run = importlib.import_module("soundfleet_worker.main").run
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] == "soundfleet_worker":
            raise  # it is in every distribution: its absence is a bug, not a missing extra
        raise error(
            ErrorCode.MISSING_DEPENDENCY, f"a worker needs {exc.name}", "Run: pip install 'soundfleet[worker]'"
        ) from None
    return run(settings) or ExitCode.OK
