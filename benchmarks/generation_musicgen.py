"""MusicGen-small beside transformers' own generate: tokens only, which are nearly all of the time."""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
import transformers
from benchmarks.generation import Case, stopwatch

from soundfleet_schemas import CATALOG, GenerationRequest, Precision
from soundfleet_worker.backends.contract import EngineJob
from soundfleet_worker.backends.musicgen import MusicGenModel
from soundfleet_worker.musicgen.codec import Codec
from soundfleet_worker.musicgen.conditions import TextEncoder
from soundfleet_worker.musicgen.loading import CHUNK_FRAMES, Checkpoint
from soundfleet_worker.musicgen.pattern import Pattern
from soundfleet_worker.musicgen.piece import Piece
from soundfleet_worker.musicgen.precision import NAMES, dtype_of
from soundfleet_worker.musicgen.slots import Seat, Slots
from soundfleet_worker.musicgen.weights import take

FRAME_RATE = 50
TEXT_TOKENS = 16
SECONDS = 30
LATE = 1200
"""Tokens that are there already in the task near a window's end; what is in the caches does not matter."""
Clock: TypeAlias = Callable[[], float]


def cases(args: argparse.Namespace) -> list[Case]:
    """One job and several, and near a window's end; ours, and transformers' in the same precision and in float32."""
    device = torch.device(args.device)
    dtype, clock = dtype_of(Precision.Auto, device), stopwatch(args.clock)
    reference = small()
    ours = MusicGenModel(CATALOG["musicgen"], checkpoint_of(copy.deepcopy(reference), device, dtype))
    reference.to(device)
    half = copy.deepcopy(reference).to(dtype)
    found = []
    for jobs, start in ((1, 0), (args.jobs, 0), (args.jobs, LATE)):
        task = f"{jobs} job{'s' if jobs > 1 else ''}{f' after {start} tokens' if start else ''}"
        found.append(Case("soundfleet", task, decoding(ours, jobs, args.units, clock, start)))
        found.append(Case("transformers fp32", task, generating(reference, jobs, args.units, clock, start)))
        if dtype is not torch.float32:
            found.append(Case(f"transformers {NAMES[dtype]}", task, generating(half, jobs, args.units, clock, start)))
    return found


def codec() -> Any:
    """EnCodec at 32 kHz, as all published MusicGens have it."""
    return transformers.EncodecConfig(
        sampling_rate=32_000,
        target_bandwidths=[2.2],
        upsampling_ratios=[8, 5, 4, 4],
        num_filters=64,
        hidden_size=128,
        codebook_size=2048,
        use_causal_conv=False,
        use_conv_shortcut=False,
    )


def small() -> Any:
    """MusicGen-small with random weights: T5-base, EnCodec at 32 kHz, 24 layers of 1024."""
    text = transformers.T5Config(vocab_size=32_128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
    decoder = transformers.MusicgenDecoderConfig()
    torch.manual_seed(0)
    config = transformers.MusicgenConfig(text_encoder=text, audio_encoder=codec(), decoder=decoder)
    model = transformers.MusicgenForConditionalGeneration(config).eval()
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=2048, decoder_start_token_id=2048, pad_token_id=2048, do_sample=True, top_k=250, guidance_scale=3.0
    )
    return model


class Tokenizer:
    """Gives every prompt the same number of tokens, on both sides."""

    def __call__(self, prompt: str, **_how: Any) -> argparse.Namespace:  # noqa: ARG002 - any prompt will do
        return argparse.Namespace(input_ids=list(range(100, 100 + TEXT_TOKENS)))


def checkpoint_of(model: Any, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """What loading such a checkpoint would give."""
    with torch.inference_mode():
        weights = take(model, device, dtype)
    codec = Codec(model.audio_encoder.to(device), 1, CHUNK_FRAMES[device.type])
    return Checkpoint(weights, TextEncoder(model.to(device), Tokenizer()), None, codec, Pattern(4, 1, 2048), (), 0)


def decoding(model: MusicGenModel, jobs: int, tokens: int, clock: Clock, start: int) -> Callable[[], float]:
    """Seconds of music per second that so many runs make together, from their first tokens or from ``start`` on."""
    studio = model._studio

    def run() -> float:
        with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
            runs = [cast(Piece, model.begin(_job(Path(scratch), seed))) for seed in range(jobs)]
            model.step(runs)
            seats = [cast(Seat, run.seat) for run in runs]
            if start:
                _skip(studio.slots, seats, start)
            began, before = clock(), sum(seat.position for seat in seats)
            for done in range(0, tokens, studio.pace.span):
                studio._launch.span(seats, min(studio.pace.span, tokens - done))
            spent, decoded = clock() - began, sum(seat.position for seat in seats) - before
            for one in runs:
                model.discard(one)
        return decoded / FRAME_RATE / spent

    return run


def _skip(slots: Slots, seats: list[Seat], start: int) -> None:
    """Go on as if the tokens up to ``start`` were there; memory that nobody has written costs nothing to read."""
    for cache in (*slots.cache.keys, *slots.cache.values):
        cache[: len(seats), :, :, :start] = 0.01
    for seat in seats:
        seat.position = start
        slots.tokens[seat.slot, :, : start + 1].clamp_(min=0)


def _job(scratch: Path, seed: int) -> EngineJob:
    request = GenerationRequest(prompt="warm lofi", duration_sec=SECONDS, seed=seed, backend="musicgen")
    return EngineJob(request.id, request, CATALOG["musicgen"], scratch=scratch)


def generating(model: Any, jobs: int, tokens: int, clock: Clock, start: int) -> Callable[[], float]:
    """The same of one batched generate, without its codec; every call of its decoder counts as a token."""
    silence = torch.zeros(jobs, 1, 1)

    def run() -> float:
        prompts = torch.randint(1000, (jobs, TEXT_TOKENS), device=model.device)
        decode = model.audio_encoder.decode
        model.audio_encoder.decode = lambda *_args, **_how: argparse.Namespace(audio_values=silence)
        calls: list[float] = []

        def listen(_module: Any, _args: Any, how: dict[str, Any]) -> None:
            cache = how["past_key_values"]
            if start and not calls:
                if cache is None or not cache.get_seq_length():
                    return
                _lengthen(cache.self_attention_cache, start)
            calls.append(clock())

        hook = model.decoder.register_forward_pre_hook(listen, with_kwargs=True)
        try:
            with torch.inference_mode():
                model.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=tokens)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
        finally:
            model.audio_encoder.decode = decode
            hook.remove()
        return jobs * len(calls) / FRAME_RATE / (clock() - calls[0])

    return run


def _lengthen(cache: Any, start: int) -> None:
    """Make a cache of one token one of ``start``, by repeating it."""
    for layer in cache.layers:
        layer.keys, layer.values = (part[:, :, :1].repeat(1, 1, start, 1) for part in (layer.keys, layer.values))
