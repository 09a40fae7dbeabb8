"""``demo``: a whole fleet on this machine for a minute: make a track, split it, leave only the files."""

from __future__ import annotations

import os
import sys
import tempfile
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
    JobStatus,
    QueueError,
    SeparationRequest,
    StemSeparationOptions,
    error,
    kind_of,
)

from ..client import Producer
from ..local import Child, LocalStack
from . import options as o
from .console import OF_JOB, ExitCode, complain, emit, end_on_terminate, err, out
from .progress import JobProgress
from .tables import files_table

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
    with ExitStack() as running:
        scratch = running.enter_context(tempfile.TemporaryDirectory(prefix="soundfleet-demo-"))
        worker, fleet = _start(Path(scratch), running)
        show = _Show(fleet, worker, out_dir, as_json)
        if source is None:
            request = GenerationRequest(prompt=prompt, duration_sec=duration, backend=GENERATOR, seed=seed)
            track = show.run(request, "track")
            if isinstance(track, ExitCode):
                return track
            source = out_dir / "track" / track.files["track"].filename
            stems = show.run(_separation(f"job:{track.job_id}"), "stems")
        else:
            stems = show.run(_separation(str(source)), "stems")
        if isinstance(stems, ExitCode):
            return stems
        show.sum_of_stems(stems, source, Path(scratch))
    return ExitCode.OK


def _separation(source: str) -> SeparationRequest:
    return SeparationRequest(source=source, options=StemSeparationOptions(model=SEPARATOR))


def _start(scratch: Path, running: ExitStack) -> tuple[Child, Producer]:
    """Start the stack and its worker; ``running`` stops them, the worker first."""
    with err.status("starting Redis, S3 and a worker"):
        stack = running.enter_context(LocalStack(scratch / "stack"))
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("SOUNDFLEET_", "AWS_"))}
        ours = {"SOUNDFLEET_SCRATCH_DIR": str(scratch), "SOUNDFLEET_GRACE_SEC": "5"}
        only = f"generate.{GENERATOR},separate.{SEPARATOR}"
        command = [sys.executable, "-m", "soundfleet_producer.cli", "worker", "--only", only, "--device", "cpu"]
        worker = Child("the worker", command, scratch / "worker.log", inherited | stack.env | ours)
        running.callback(worker.stop, GRACE_SEC)
        worker.start()
        return worker, running.enter_context(Producer(stack.settings, stack.storage))


class _Show:
    """Runs one job after another and shows them."""

    def __init__(self, fleet: Producer, worker: Child, out_dir: Path, as_json: bool) -> None:
        self._fleet = fleet
        self._worker = worker
        self._out_dir = out_dir
        self._as_json = as_json

    def run(self, request: JobRequest, name: str) -> JobResult | ExitCode:
        """Run a job and download its files into ``out_dir/name``; the exit code when it did not complete."""
        job = self._fleet.submit(request)
        with JobProgress(shown=not self._as_json) as progress:
            last = progress.follow(kind_of(request), self._events(job.id))
        if last.type is not EventType.completed:
            if last.error is not None:
                complain(last.error, self._as_json)
            return OF_JOB[JobStatus(last.type.value)]
        directory = self._out_dir / name
        self._fleet.download(job.id, directory)
        result = self._fleet.result(job.id)
        if self._as_json:
            emit(result)
        else:
            out.print(files_table(result, directory))
        return result

    def _events(self, job_id: str) -> Iterator[JobEvent]:
        after: str | None = None
        while True:
            try:
                for event in self._fleet.watch(job_id, after, LOOK_SEC):
                    after = event.id
                    yield event
            except QueueError as exc:
                if exc.code is not ErrorCode.RESULT_TIMEOUT:
                    raise
                if not self._worker.running:
                    raise error(ErrorCode.WORKER_CRASHED, f"the worker ended: {self._worker.tail()}") from None
            else:
                return

    def sum_of_stems(self, result: JobResult, source: Path, scratch: Path) -> None:
        """Say how exactly the stems add up to their source."""
        from .adding_up import difference_db

        stems = [self._out_dir / "stems" / stem.filename for stem in result.stems.values()]
        difference = difference_db(source, stems, next(iter(result.stems.values())).sample_rate, scratch)
        if self._as_json:
            emit({"difference_db": difference})
        else:
            out.print(f"The {len(stems)} stems add up to {source.name}: they differ by {difference:.0f} dB.")
