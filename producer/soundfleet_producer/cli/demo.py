"""``demo``: a whole fleet on this machine for a minute: make a track, split it, leave only the files."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from soundfleet_schemas import (
    ErrorCode,
    EventType,
    GenerationRequest,
    JobEvent,
    JobRequest,
    JobResult,
    QueueError,
    SeparationRequest,
    StemSeparationOptions,
    error,
    kind_of,
)

from ..client import Producer
from ..local import Child, LocalStack
from ..local.scratch import temporary_directory
from ..outputs import prepare_directory
from . import options as o
from .adding_up import difference_db
from .console import ExitCode, emit, end_on_terminate, err, say
from .follow import ended_otherwise
from .progress import JobProgress
from .tables import Delivered, files_table

GENERATOR, SEPARATOR = "sketch", "htdemucs_mini"
"""The two models that need no download."""
LOOK_SEC = 2.0
"""How often the worker is looked after while its job is awaited."""
GRACE_SEC = 15.0


def demo(
    source: Annotated[
        Path | None, typer.Option("--input", "-i", help="Split this file instead of a generated track.")
    ] = None,
    out_dir: Annotated[Path, typer.Option("--out", "-o", help="Directory for the files.")] = Path("out"),
    prompt: Annotated[str, typer.Option(help="What the track should be.")] = "warm lofi with rain, mellow keys",
    duration: Annotated[int, typer.Option("--duration", "-d", help="Length of the track in seconds.")] = 24,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same track.")] = None,
    as_json: o.Json = False,
) -> int:
    """Make a track and split it into stems with a private fleet.

    Starts Redis, S3 and one CPU worker, and leaves only the files.

    Example: soundfleet demo --input song.mp3 --out ./stems
    """
    end_on_terminate()
    prepare_directory(out_dir)
    with ExitStack() as running:
        scratch = running.enter_context(temporary_directory("soundfleet-demo-"))
        worker, fleet = _start(scratch, running)
        delivered: list[Delivered] = []
        with JobProgress(shown=not as_json) as progress:
            for name, request in _requests(source, prompt, duration, seed):
                last = progress.follow(kind_of(request), _events(fleet, worker, fleet.submit(request).id))
                if last.type is not EventType.completed:
                    return ended_otherwise(last, as_json)
                fleet.download(last.job_id, out_dir / name)
                delivered.append(Delivered(fleet.result(last.job_id), out_dir / name))
        stems = delivered[-1]
        mix = source or next(delivered[0].paths())
        difference = difference_db(mix, list(stems.paths()), _sample_rate(stems.result), scratch)
        if as_json:
            for each in delivered:
                emit(each.result)
            emit({"difference_db": difference})
            return ExitCode.OK
        say(files_table(delivered))
        say(f"The stems add up to {mix.name} to within {difference:.0f} dB.")
    err.print(f"[dim]Nothing runs on; the files are in {out_dir}.[/]", soft_wrap=True)
    return ExitCode.OK


def _requests(source: Path | None, prompt: str, duration: int, seed: int | None) -> Iterator[tuple[str, JobRequest]]:
    """What is to be done, each with the directory of its files."""
    options = StemSeparationOptions(model=SEPARATOR)
    if source is not None:
        yield "stems", SeparationRequest(source=str(source), options=options)
        return
    track = GenerationRequest(prompt=prompt, duration_sec=duration, backend=GENERATOR, seed=seed)
    yield "track", track
    yield "stems", SeparationRequest(source=f"job:{track.id}", options=options)


def _sample_rate(result: JobResult) -> int:
    return next(iter(result.files.values())).sample_rate


def _start(scratch: Path, running: ExitStack) -> tuple[Child, Producer]:
    """Start the stack and its worker; ``running`` stops them, the worker first."""
    err.print("A private fleet on this machine: Redis, S3 and one worker on the CPU.")
    with err.status("starting it"):
        stack = running.enter_context(LocalStack(scratch / "stack"))
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("SOUNDFLEET_", "AWS_"))}
        ours = {"SOUNDFLEET_SCRATCH_DIR": str(scratch), "SOUNDFLEET_GRACE_SEC": "5"}
        only = f"generate.{GENERATOR},separate.{SEPARATOR}"
        command = [sys.executable, "-m", "soundfleet_producer.cli", "worker", "--only", only, "--device", "cpu"]
        env = inherited | stack.env | ours
        # Its queue dies with the demo: there is nothing that it could still settle.
        worker = Child("the worker", command, scratch / "worker.log", env, orphaned=signal.SIGKILL)
        running.callback(worker.stop, GRACE_SEC)
        worker.start()
        return worker, running.enter_context(Producer(stack.settings, stack.storage))


def _events(fleet: Producer, worker: Child, job_id: str) -> Iterator[JobEvent]:
    """A job's events, for as long as the worker lives."""
    after: str | None = None
    while True:
        try:
            for event in fleet.watch(job_id, after, LOOK_SEC):
                after = event.id
                yield event
        except QueueError as exc:
            if exc.code is not ErrorCode.RESULT_TIMEOUT:
                raise
            if not worker.running:
                raise error(ErrorCode.WORKER_CRASHED, f"the worker ended: {worker.tail()}") from None
        else:
            return
