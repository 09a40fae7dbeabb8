"""The fleet itself: the ``workers`` that are alive, and running a ``worker``."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from ..client import Producer
from ..settings import Settings
from . import options as o
from .console import ExitCode, emit, err, say
from .extras import worker_module
from .tables import workers_table


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


def worker(
    only: Annotated[
        str | None,
        typer.Option(
            help="Serve only these: generate.musicgen,separate.htdemucs; all by default. "
            "fetch.web: no models, only downloads."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1; SOUNDFLEET_DEVICE by default.")] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Jobs held at once on the device; SOUNDFLEET_SLOTS by default.")
    ] = None,
    fetch_slots: Annotated[
        int | None, typer.Option(min=0, help="Downloads at once; SOUNDFLEET_FETCH_SLOTS by default.")
    ] = None,
) -> int:
    """Run a worker on this machine.

    SIGTERM or Ctrl-C lets running jobs finish within the grace period and hands the rest back.

    Example: soundfleet worker --only separate.htdemucs,separate.htdemucs_ft --device cuda:1
    """
    given = {"only": only, "device": device, "slots": slots, "fetch_slots": fetch_slots}
    settings = msgspec.structs.replace(
        Settings.load(), **{name: value for name, value in given.items() if value is not None}
    )
    return worker_module("main").run(settings) or ExitCode.OK
