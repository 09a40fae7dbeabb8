"""Our fleet: real Redis, S3 and worker on this machine, jobs submitted by the client library."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from soundfleet_producer import Producer
from soundfleet_producer.local import Child, LocalStack
from soundfleet_schemas import BitDepth, SeparationRequest, StemSeparationOptions

TIMEOUT_SEC = 1800.0


@contextmanager
def fleet(scratch: Path, repository: Path, backend: str, device: str, precision: str) -> Iterator[Producer]:
    """A stack with one worker that serves one backend (``kind.name``); yields a client."""
    with LocalStack(scratch / "stack") as stack:
        settings = {
            "SOUNDFLEET_SCRATCH_DIR": "/dev/shm" if os.path.isdir("/dev/shm") else str(scratch),
            "SOUNDFLEET_MODEL_DIR": str(repository),
            "SOUNDFLEET_PRECISION": precision,
            "SOUNDFLEET_OFFLINE": "1",
        }
        command = [sys.executable, "-m", "soundfleet_producer.cli", "worker"]
        command += ["--only", backend, "--device", device]
        worker = Child("the worker", command, scratch / "worker.log", {**os.environ, **stack.env, **settings})
        worker.start()
        try:
            with Producer(stack.settings, stack.storage) as client:
                yield client
        finally:
            worker.stop(20.0)


def separate(client: Producer, model: str, songs: list[Path]) -> tuple[float, str]:
    """Hand over all songs at once; return the seconds until the last is stored, and the precision that acted."""
    options = StemSeparationOptions(model=model, shifts=1, bit_depth=BitDepth.int16)
    began = time.perf_counter()
    jobs = [client.submit(SeparationRequest(source=str(song), options=options, use_cache=False)) for song in songs]
    results = [client.result(job.id, timeout=TIMEOUT_SEC) for job in jobs]
    return time.perf_counter() - began, str(results[-1].parameters["precision"])


def measure(
    scratch: Path, repository: Path, model: str, device: str, precision: str, warm: Path, songs: list[Path]
) -> dict[str, float | str]:
    """Seconds for one song alone and for a backlog of all of them, and of all cores; the model is loaded and warm."""
    with fleet(scratch, repository, f"separate.{model}", device, precision) as client:
        separate(client, model, [warm])
        alone, acted = separate(client, model, songs[:1])
        before = core_sec()
        backlog, _ = separate(client, model, songs)
        busy = core_sec() - before
    return {"alone_sec": alone, "backlog_sec": backlog, "backlog_core_sec": busy, "precision": acted}


def core_sec() -> float:
    """Seconds of all cores that this process and all below it have used: client, worker, Redis, S3."""
    this = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (this, *this.children(recursive=True)))
