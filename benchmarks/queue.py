"""The queue beside its peers: ``python benchmarks/queue.py [--rounds 3]``. A table, and every round as JSON."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
CONTEST = HERE / "contest"
sys.path[0] = str(CONTEST)  # in place of this directory: a file called queue in it would hide the standard library's

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import redis
from contenders import MODULES, load
from machine import describe
from probe import VARIABLE
from processes import redis_server, wait_until, worker

STALL_SEC = 60.0
Rounds: TypeAlias = dict[str, list[dict[str, float]]]


def measure(name: str, verb: str, count: int) -> Any:
    """One measurement in a process of its own."""
    command = [sys.executable, str(CONTEST / "contenders.py"), name, verb, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise SystemExit(f"{name} {verb}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def used_memory(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def publishing(name: str, client: redis.Redis, args: argparse.Namespace) -> dict[str, float]:
    """Jobs per second one by one and in batches; bytes per queued job."""
    client.flushall()
    figures = {"publish_per_sec": args.jobs / measure(name, "publish", args.jobs)}
    client.flushall()
    before = used_memory(client)
    figures["batch_per_sec"] = args.batch / measure(name, "publish_many", args.batch)
    figures["bytes_per_queued_job"] = (used_memory(client) - before) / (args.batch + 1)
    return figures


def working(name: str, client: redis.Redis, args: argparse.Namespace, logs: Path) -> dict[str, float]:
    """Jobs per second through one worker process, and how soon an idle one begins; ms."""
    client.flushall()
    measure(name, "preload", args.drain)
    module = load(name)
    with worker(module.worker_command(), module.WORKER_ENV, logs / f"{name}.log"):
        figures = {"drain_per_sec": _drain(lambda: module.remaining(client), args.drain)}
        time.sleep(0.5)
        for what, samples in measure(name, "pickup", args.pickups).items():
            figures |= {f"{what}_p50": _percentile(samples, 0.50), f"{what}_p99": _percentile(samples, 0.99)}
    return figures


def _drain(remaining: Callable[[], int], total: int) -> float:
    """Jobs per second from the first tenth to the last job: the start of the worker does not count."""
    wait_until(lambda: remaining() <= 0.9 * total, STALL_SEC, "the first tenth")
    left, began = remaining(), time.perf_counter()
    wait_until(lambda: remaining() == 0, STALL_SEC, "the last job")
    return left / (time.perf_counter() - began)


def _percentile(samples: list[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over the rounds."""
    return {name: round(statistics.median(figures[name] for figures in rounds), 3) for name in rounds[0]}


def main() -> None:
    """Measure every contender once a round, in a turning order; write the medians and every round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2000, help="jobs that are published one by one")
    parser.add_argument("--batch", type=int, default=10_000, help="jobs that are published in batches")
    parser.add_argument("--drain", type=int, default=4000, help="jobs that the worker drains")
    parser.add_argument("--pickups", type=int, default=150, help="jobs that an idle worker picks up")
    parser.add_argument("--only", nargs="*", choices=list(MODULES), default=list(MODULES))
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    rounds: Rounds = {name: [] for name in args.only}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, client = stack.enter_context(redis_server())
        os.environ.update({"BENCH_REDIS_URL": url, VARIABLE: str(scratch / "probe"), "PYTHONPATH": str(CONTEST)})
        machine = describe(client)
        for turn in range(args.rounds):
            order = args.only[turn % len(args.only) :] + args.only[: turn % len(args.only)]
            for name in order:
                figures = publishing(name, client, args) | working(name, client, args, scratch)
                rounds[name].append(figures)
                print(
                    f"round {turn + 1} {name}: {json.dumps({k: round(v, 2) for k, v in figures.items()})}", flush=True
                )
    report(machine, vars(args), rounds, args.out)


def report(
    machine: dict[str, Any], asked: dict[str, Any], rounds: dict[str, list[dict[str, float]]], out: Path
) -> None:
    """Print the medians as a table; keep everything as JSON."""
    table = {name: medians(figures) for name, figures in rounds.items()}
    ours = table.get("soundfleet", {})
    ratios = {
        name: {figure: round(ours[figure] / value, 2) for figure, value in figures.items() if figure in ours and value}
        for name, figures in table.items()
        if name != "soundfleet"
    }
    now = datetime.now(UTC)
    document = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine,
        "asked": {key: value for key, value in asked.items() if key not in ("out", "only")},
        "medians": table,
        "ours_over_theirs": ratios,
        "rounds": rounds,
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"queue-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    columns = list(dict.fromkeys(figure for figures in table.values() for figure in figures))
    print(f"{'':12}" + "".join(f"{column:>22}" for column in columns))
    for name, figures in table.items():
        print(f"{name:12}" + "".join(f"{figures.get(column, float('nan')):>22,.2f}" for column in columns))
    print(path)


if __name__ == "__main__":
    main()
