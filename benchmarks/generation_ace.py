"""ACE-Step 1.5 turbo beside diffusers' pipeline, from words to audio: ``python benchmarks/generation.py ace``.

Random weights: of the full-size 2B checkpoint with ``--size full``, on which speed depends; with ``--size small`` of a
little model, which shows in seconds that the benchmark runs and says nothing of the full size. Both sides compute in
half-width floats where the device multiplies them natively, and share the tensors of all modules but the VAE.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent)  # in place of this directory: its queue.py hides the library's

import torch
from benchmarks import generation
from diffusers import AceStepPipeline, AceStepTransformer1DModel, AutoencoderOobleck, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ace_step import AceStepConditionEncoder
from transformers import Qwen3Config, Qwen3Model

from soundfleet_schemas import CATALOG, GenerationRequest, Precision
from soundfleet_worker.ace_step.loading import dtype_of
from soundfleet_worker.ace_step.oobleck import ready
from soundfleet_worker.ace_step.parts import Parts
from soundfleet_worker.backends.ace_step import AceStepModel
from soundfleet_worker.backends.contract import EngineJob

STEPS = 8
SECONDS = {("small", "cpu"): 10, ("small", "cuda"): 10, ("full", "cpu"): 20, ("full", "cuda"): 120}
TEXT_TOKENS, LYRICS_TOKENS = 80, 200
TEXT_WIDTH = 1024
SMALL: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
"""In place of the full-size widths; the full size is diffusers' own defaults."""
Clock: TypeAlias = Callable[[], float]


class Tokenizer:
    """Gives every text the same number of tokens, on both sides."""

    def __call__(self, text: str | list[str], **how: Any) -> argparse.Namespace:
        texts = [text] if isinstance(text, str) else text
        rows = [list(range(100, 100 + (LYRICS_TOKENS if "# Lyric" in one else TEXT_TOKENS))) for one in texts]
        if how.get("return_tensors") == "pt":
            ids = torch.tensor(rows)
            return argparse.Namespace(input_ids=ids, attention_mask=torch.ones_like(ids))
        return argparse.Namespace(input_ids=rows[0])


def cases(args: argparse.Namespace) -> list[generation.Case]:
    """One song, and a backlog: ours, the pipeline song by song, and the pipeline with all of them as one batch."""
    small = args.size == "small"
    parts, pipeline = checkpoint(torch.device(args.device), small)
    model, steps = AceStepModel(CATALOG["ace_step"], parts), min(args.units, STEPS)
    seconds, clock = args.seconds or SECONDS[args.size, parts.device.type], generation.stopwatch(args.clock)
    tasks = [
        (generation.OURS, "1 job", ours(model, 1, seconds, steps, clock)),
        ("diffusers", "1 job", theirs(pipeline, 1, 1, seconds, steps, clock)),
    ]
    if args.jobs > 1:
        backlog = f"{args.jobs} jobs"
        tasks += [
            (generation.OURS, backlog, ours(model, args.jobs, seconds, steps, clock)),
            ("diffusers in turn", backlog, theirs(pipeline, args.jobs, 1, seconds, steps, clock)),
            ("diffusers in a batch", backlog, theirs(pipeline, args.jobs, args.jobs, seconds, steps, clock)),
        ]
    return [generation.Case(*task) for task in tasks]


def checkpoint(device: torch.device, small: bool) -> tuple[Parts, AceStepPipeline]:
    """The same random weights for both sides, in the precision that a worker takes by itself."""
    dtype, widths = dtype_of(Precision.Auto, str(device)), SMALL if small else {}
    torch.manual_seed(0)
    with device:
        vae, copied = (_vae(small) for _ in range(2))
        copied.load_state_dict(vae.state_dict())
        torch.set_default_dtype(dtype)  # weights in other floats would need twice the memory for a moment
        transformer = AceStepTransformer1DModel(is_turbo=True, num_hidden_layers=4 if small else 24, **widths)
        condition_encoder = AceStepConditionEncoder(**widths)
        text_encoder = Qwen3Model(_text_config(small))
        torch.set_default_dtype(torch.float32)
    modules = [m.to(device, dtype).eval() for m in (transformer, condition_encoder, ready(copied), text_encoder)]
    parts = Parts(*modules, None, None, Tokenizer(), device, dtype)
    pipeline = AceStepPipeline(
        vae=vae.to(device, dtype).eval(),
        text_encoder=text_encoder,
        tokenizer=Tokenizer(),
        transformer=transformer,
        condition_encoder=condition_encoder,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )
    pipeline.set_progress_bar_config(disable=True)
    return parts, pipeline


def _vae(small: bool) -> AutoencoderOobleck:
    return AutoencoderOobleck(
        encoder_hidden_size=128,
        decoder_channels=8 if small else 128,
        downsampling_ratios=[2, 4, 4, 6, 10],
        sampling_rate=48_000,
    )


def _text_config(small: bool) -> Qwen3Config:
    """Of Qwen3-Embedding-0.6B."""
    return Qwen3Config(
        vocab_size=1_000 if small else 151_936,
        hidden_size=TEXT_WIDTH,
        intermediate_size=3_072,
        num_hidden_layers=2 if small else 28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
    )


def ours(model: AceStepModel, jobs: int, seconds: int, steps: int, clock: Clock) -> Callable[[], float]:
    """Seconds of music per second, jobs joining as places become free, as the engine lets them."""

    def run() -> float:
        with tempfile.TemporaryDirectory() as scratch:
            began = clock()
            waiting = [_job(Path(scratch), seed, seconds, steps) for seed in range(jobs)]
            active: list[Any] = []
            while waiting or active:
                while waiting and len(active) < model.max_runs:
                    active.append(model.begin(waiting.pop()))
                model.step(active)
                for one in [one for one in active if one.done]:
                    model.finish(one)
                    active.remove(one)
            return jobs * seconds / (clock() - began)

    return run


def _job(scratch: Path, seed: int, seconds: int, steps: int) -> EngineJob:
    asked = {"prompt": "warm lofi", "duration_sec": seconds, "seed": seed, "inference_steps": steps}
    request = GenerationRequest(backend="ace_step", **asked)
    return EngineJob(request.id, request, CATALOG["ace_step"], scratch=scratch / request.id)


def theirs(
    pipeline: AceStepPipeline, jobs: int, batch: int, seconds: int, steps: int, clock: Clock
) -> Callable[[], float]:
    """The same of the pipeline, in batches."""

    def run() -> float:
        began = clock()
        for first in range(0, jobs, batch):
            seeds = range(first, first + batch)
            pipeline(
                ["warm lofi"] * batch,
                lyrics=[""] * batch,
                audio_duration=float(seconds),
                num_inference_steps=steps,
                guidance_scale=1.0,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="np",
            )
        return jobs * seconds / (clock() - began)

    return run


if __name__ == "__main__":
    sys.argv.insert(1, "ace")
    generation.main()
