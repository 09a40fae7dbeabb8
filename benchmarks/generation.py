"""Generation beside the libraries it stands on: ``python benchmarks/generation.py musicgen``. A table, and JSON.

Full-size architectures with random weights: speed does not depend on the values. Every contender is measured once a
round, in a turning order, in one process. A family is a module ``generation_<family>.py`` beside this file with
``cases(args)``, which returns ``Case``s.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[0] = str(HERE.parent)  # in place of this directory: its queue.py would hide the standard library's

import argparse  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from importlib.metadata import version  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

FAMILIES = ("musicgen", "ace")
OURS = "soundfleet"
PACKAGES = ("torch", "transformers", "diffusers")


class Case(NamedTuple):
    """One contender at one task."""

    contender: str
    """``soundfleet``, or who is beside it."""
    task: str
    """What is done, in the same words for all contenders."""
    run: Callable[[], float]
    """Does it once and returns seconds of audio per second."""


def main() -> None:
    """Measure every case of a family once a round; write the medians and every round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--jobs", type=int, default=8, help="how many run at once in the tasks with several")
    parser.add_argument("--units", type=int, default=32, help="tokens or denoising steps per measurement")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="small: does it run at all (ace)")
    parser.add_argument("--seconds", type=int, default=0, help="of music per job (ace); 0 for its own choice")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu on a machine with other work")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    prepare(args.device)
    machine = describe(args.device)
    cases: list[Case] = importlib.import_module(f"benchmarks.generation_{args.family}").cases(args)
    seen: dict[str, dict[str, list[float]]] = {}
    for turn in range(args.rounds):
        start = turn % len(cases)
        for case in (*cases[start:], *cases[:start]):
            figure = case.run()
            seen.setdefault(case.task, {}).setdefault(case.contender, []).append(round(figure, 4))
            print(f"round {turn + 1}, {case.task}, {case.contender}: {figure:.3f} times real time", flush=True)
    report(machine, vars(args), seen)


def stopwatch(clock: str) -> Callable[[], float]:
    """Seconds of the wall; or those of all cores that this process has had, which other work stretches less."""
    cores = os.cpu_count() or 1
    return time.perf_counter if clock == "wall" else lambda: time.process_time() / cores


def prepare(device: str) -> None:
    """Set this process up as a worker's engine is."""
    from soundfleet_worker.engine.devices import tune

    tune(0)
    if device == "cpu":
        import torch

        torch.set_num_threads(os.cpu_count() or 1)


def describe(device: str) -> dict[str, Any]:
    """Processor or GPU, system, versions, and the load before the run."""
    import torch

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def report(machine: dict[str, Any], asked: dict[str, Any], seen: dict[str, dict[str, list[float]]]) -> None:
    """Print the medians as a table; keep everything as JSON."""
    medians = {
        task: {who: round(statistics.median(figures), 4) for who, figures in by.items()} for task, by in seen.items()
    }
    ratios = {
        task: {who: round(by[OURS] / figure, 2) for who, figure in by.items() if who != OURS}
        for task, by in medians.items()
        if OURS in by
    }
    now = datetime.now(UTC)
    document = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine,
        "asked": {key: value for key, value in asked.items() if key != "out"},
        "times_real_time": medians,
        "ours_over_theirs": ratios,
        "rounds": seen,
    }
    asked["out"].mkdir(parents=True, exist_ok=True)
    path = asked["out"] / f"generation-{asked['family']}-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for task, by in medians.items():
        print(f"{task:20}" + "".join(f"{who:>24} {figure:9.3f}" for who, figure in by.items()))
    print(path)


if __name__ == "__main__":
    main()
