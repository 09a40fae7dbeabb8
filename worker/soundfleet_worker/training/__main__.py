"""Command line of the training: train, resume, export, evaluate."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from .checkpoint import Checkpoint
from .loop import Plan, train
from .memory import keep_freed_memory


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    out = argparse.ArgumentParser(prog="python -m soundfleet_worker.training", description=__doc__)
    length = out.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="train for this many steps")
    length.add_argument("--minutes", type=float, help="train for this long (default: 75)")
    out.add_argument("--out", type=Path, default=Path("htdemucs_mini.ckpt"), help="the checkpoint file")
    out.add_argument("--resume", action="store_true", help="go on from the checkpoint file")
    out.add_argument("--seed", type=int, default=0)
    out.add_argument("--threads", type=int, default=2, help="CPU threads")
    out.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    out.add_argument("--batch", type=int, default=4)
    out.add_argument("--learning-rate", type=float, default=1e-3)
    out.add_argument("--half", action="store_true", help="forward pass in bfloat16")
    out.add_argument("--export", type=Path, metavar="FOLDER", help="write the checkpoint's weights there; no training")
    out.add_argument("--evaluate", action="store_true", help="separate 20 unseen sketches; no training")
    out.add_argument("--weights", type=Path, metavar="FOLDER", help="weights to evaluate (default: the packaged ones)")
    return out


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    if args.export:
        from .export import export

        print(export(Checkpoint.load(args.out), args.export))
    if args.evaluate:
        from ..weights import FOLDER, load_bag
        from .evaluate import evaluate, table

        bag = load_bag("htdemucs_mini", args.weights or args.export or FOLDER)
        print(table(evaluate(bag)))
    if args.export or args.evaluate:
        return
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    plan = Plan(
        out=args.out,
        steps=args.steps,
        minutes=args.minutes if args.steps or args.minutes else 75.0,
        seed=args.seed,
        device=device,
        batch=args.batch,
        learning_rate=args.learning_rate,
        half=args.half,
    )
    resumed = Checkpoint.load(args.out) if args.resume else None
    if resumed:
        plan = replace(plan, shape=resumed.shape)
    train(plan, resumed, report=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
