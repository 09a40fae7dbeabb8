"""How right the estimates of the time left are: ``python benchmarks/eta.py musicgen|ace_step``. A table, and JSON.

A whole fleet on this machine makes songs, alone and beside others; what every ``ProgressUpdate`` foretold is held
against when the job was completed, from the middle of its run on.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[0] = str(HERE.parent)  # in place of this directory: its queue.py would hide the standard library's

import argparse  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from typing import Any  # noqa: E402

from benchmarks import eta_models, generation  # noqa: E402
from benchmarks.separation_contest.fleet import TIMEOUT_SEC, fleet  # noqa: E402

from soundfleet_producer import Producer  # noqa: E402
from soundfleet_schemas import EventType, GenerationRequest  # noqa: E402

LEAST_SEC = 2.0
"""Estimates of less are not judged: they are given to a tenth of a second, and a delivery is guessed at."""
SCENES: dict[str, dict[str, list[tuple[float, int]]]] = {
    "musicgen": {
        "the first job": [(0.0, 30)],
        "alone": [(0.0, 30)],
        "alone, four windows": [(0.0, 80)],
        "four at once": [(0.0, 30), (0.0, 30), (0.0, 30), (0.0, 30)],
        "one that others leave": [(0.0, 80), (0.0, 10), (0.0, 10)],
    },
    "ace_step": {
        "the first job": [(0.0, 120)],
        "alone": [(0.0, 120)],
        "alone, long": [(0.0, 240)],
        "two at once": [(0.0, 60), (0.0, 60)],
    },
}
"""By backend, what is made: when it is submitted, and seconds of music."""


def play(client: Producer, backend: str, scene: list[tuple[float, int]], steps: int | None) -> list[list[float | None]]:
    """Make the songs of a scene; returns the errors of each job's estimates, as shares of what was truly left."""
    began, jobs = time.monotonic(), []
    for at_sec, seconds in scene:
        time.sleep(max(0.0, began + at_sec - time.monotonic()))
        asked = {"prompt": "warm lofi", "duration_sec": seconds, "inference_steps": steps}
        jobs.append(client.submit(GenerationRequest(backend=backend, use_cache=False, **asked)))
    for job in jobs:
        client.result(job.id, timeout=TIMEOUT_SEC)
    return [errors(client, job.id) for job in jobs]


def errors(client: Producer, job_id: str) -> list[float | None]:
    """What one job's estimates were off by, from the middle of its run on; None of a place where there was none."""
    events = list(client.watch(job_id))
    end_ms = events[-1].at_ms
    start_ms = next(event.at_ms for event in reversed(events) if event.type is EventType.claimed)
    middle_ms = (start_ms + end_ms) / 2
    found: list[float | None] = []
    for event in events:
        progress, left_sec = event.progress, (end_ms - event.at_ms) / 1000
        if progress is not None and event.at_ms >= middle_ms and left_sec >= LEAST_SEC:
            found.append(None if progress.eta_sec is None else progress.eta_sec / left_sec - 1)
    return found


def main() -> None:
    """Play every scene, and say how many estimates were within 20 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backend", choices=sorted(SCENES))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps", type=int, help="denoising steps, where the checkpoint's own are not wanted")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    machine, table = generation.describe(args.device), {}
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        eta_models.save(args.backend, scratch / "models")
        with fleet(scratch, scratch / "models", f"generate.{args.backend}", args.device, "auto") as client:
            for scene, songs in SCENES[args.backend].items():
                table[scene] = judged(play(client, args.backend, songs, args.steps))
                print(f"{scene:24}{json.dumps(table[scene])}", flush=True)
    now = datetime.now(UTC)
    asked = {key: value for key, value in vars(args).items() if key != "out"}
    document = {"at": now.isoformat(timespec="seconds"), "machine": machine, "asked": asked, "scenes": table}
    path = args.out / f"eta-{args.backend}-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(path)


def judged(jobs: list[list[float | None]]) -> dict[str, Any]:
    """Of all estimates: how many, how many were left out, how many within 20 %, the median and the worst error."""
    found = [error for job in jobs for error in job if error is not None]
    if not found:
        return {"estimates": 0}
    return {
        "estimates": len(found),
        "left_out": sum(error is None for job in jobs for error in job),
        "within_20_percent": round(sum(abs(error) <= 0.2 for error in found) / len(found), 3),
        "median": round(statistics.median(found), 3),
        "worst": round(max(found, key=abs), 3),
    }


if __name__ == "__main__":
    main()
