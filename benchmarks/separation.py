"""Our fleet beside demucs' own API: ``python benchmarks/separation.py [--model htdemucs]``. A table, and JSON.

From a song's file to its encoded stems, in turns: same weights, songs, options, machine.
"""

# ruff: noqa: E402

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[0] = str(HERE / "separation_contest")  # in place of this directory, whose queue.py would hide another

from soundfleet_worker.engine.devices import choose_device, tune

tune(0)  # as the engine does, and before anything imports torch

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from datetime import UTC, datetime
from typing import Any

import fleet
import host
import quality
import songs

AIMS = {
    "cpu": "2.2 times demucs, SI-SDR loss at most 0.05 dB, more than 40 dB against float32",
    "cuda": "10 times demucs, 1,000 times real time with a backlog, one song alone under 1 s",
}


def demucs(repository: Path, args: argparse.Namespace, out: Path, paths: list[Path]) -> dict[str, Any]:
    """One turn of demucs in a process of its own.

    Its threads wait as ours do: spinning, torch's default, makes it ten times as slow where others use the cores.
    """
    command = [sys.executable, str(HERE / "separation_contest" / "peer_demucs.py"), str(repository), args.model]
    done = subprocess.run(
        [*command, args.device, str(out), *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
    )
    if done.returncode:
        raise SystemExit(f"demucs: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def contest(args: argparse.Namespace, scratch: Path) -> dict[str, list[dict[str, Any]]]:
    """Let both separate all songs once a round, in a turning order."""
    repository = songs.repository(scratch / "models", args.model)
    paths = songs.songs(scratch / "songs", args.songs, args.seconds)
    warm = songs.songs(scratch / "warm", 1, 10.0)[0]
    rounds: dict[str, list[dict[str, Any]]] = {"soundfleet": [], "demucs": []}
    for turn in range(args.rounds):
        for name in sorted(rounds, reverse=bool(turn % 2)):
            room = scratch / f"{name}-{turn}"
            room.mkdir()
            if name == "demucs":
                figures = demucs(repository, args, room, paths)
            else:
                figures = fleet.measure(room, repository, args.model, args.device, args.precision, warm, paths)
            rounds[name].append(figures | {"load": host.load()})
            print(f"round {turn + 1} {name}: {json.dumps(figures)}", flush=True)
    return rounds


def summary(rounds: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> dict[str, Any]:
    """Medians, spreads, and how many times as fast we are, round by round."""
    audio = {"alone_sec": args.seconds, **dict.fromkeys(("backlog_sec", "backlog_core_sec"), args.seconds * args.songs)}
    table: dict[str, Any] = {}
    for figure, seconds in audio.items():
        times = {name: [turn[figure] for turn in turns] for name, turns in rounds.items()}
        ratios = [theirs / ours for ours, theirs in zip(times["soundfleet"], times["demucs"], strict=True)]
        table[figure.removesuffix("_sec")] = {
            **{name: round(statistics.median(values), 3) for name, values in times.items()},
            "times_real_time": round(seconds / statistics.median(times["soundfleet"]), 1),
            "times_demucs": round(statistics.median(ratios), 2),
            "times_demucs_spread": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["htdemucs_mini", "htdemucs"], default="htdemucs_mini")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16; demucs is always at fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--songs", type=int, default=3, help="length of the backlog")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each song")
    parser.add_argument("--judged", type=int, default=5, help="sketches of 12 s that quality is measured on")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    args.device = choose_device(args.device)
    machine = host.describe(args.device)
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        cost = quality.measure(args.model, args.device, args.precision, args.judged, 12.0, scratch)
        print(f"quality: {json.dumps(cost)}", flush=True)
        rounds = contest(args, scratch)
    now = datetime.now(UTC)
    document = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine,
        "asked": {key: value for key, value in vars(args).items() if key != "out"},
        "aim": AIMS[args.device.partition(":")[0]],
        "quality": cost,
        "summary": summary(rounds, args),
        "rounds": rounds,
    }
    path = args.out / f"separation-{args.model}-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document["summary"], indent=2))
    print(path)


if __name__ == "__main__":
    main()
