"""Checkpoints of middling size with random weights, saved as published: large enough that estimates can be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from benchmarks import generation_musicgen
from diffusers import AceStepPipeline, AceStepTransformer1DModel, AutoencoderOobleck, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ace_step import AceStepConditionEncoder
from tests import ace_step_checkpoint, musicgen_checkpoint

from soundfleet_schemas import CATALOG

TEXT_WIDTH = 64


def save(backend: str, models: Path) -> None:
    """Save the checkpoint of a backend where a worker with this model directory finds it."""
    folder = models / CATALOG[backend].model_version
    torch.manual_seed(0)
    {"musicgen": musicgen, "ace_step": ace_step}[backend](folder)


def musicgen(folder: Path) -> None:
    """A decoder of 6 layers of 512; the codec is as large as the published ones'."""
    text = transformers.T5Config(vocab_size=128, d_model=TEXT_WIDTH, d_kv=16, d_ff=256, num_layers=2, num_heads=4)
    decoder = transformers.MusicgenDecoderConfig(
        hidden_size=512, num_hidden_layers=6, num_attention_heads=8, ffn_dim=2048
    )
    config = transformers.MusicgenConfig(text_encoder=text, audio_encoder=generation_musicgen.codec(), decoder=decoder)
    model = transformers.MusicgenForConditionalGeneration(config)
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()
    model.save_pretrained(folder)
    musicgen_checkpoint.tokenizer().save_pretrained(folder)


def ace_step(folder: Path) -> None:
    """A transformer of 6 layers of 512, and a VAE of a quarter of the published one's channels."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    block: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 1536, **heads}
    text = transformers.Qwen3Config(
        vocab_size=1024, hidden_size=TEXT_WIDTH, intermediate_size=128, num_hidden_layers=2, head_dim=16, **heads
    )
    pipeline = AceStepPipeline(
        vae=AutoencoderOobleck(
            encoder_hidden_size=32, decoder_channels=32, downsampling_ratios=[2, 4, 4, 6, 10], sampling_rate=48_000
        ),
        text_encoder=transformers.Qwen3Model(text),
        tokenizer=ace_step_checkpoint.tokenizer(),
        transformer=AceStepTransformer1DModel(is_turbo=True, num_hidden_layers=6, **block),
        condition_encoder=AceStepConditionEncoder(text_hidden_dim=TEXT_WIDTH, **block),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )
    pipeline.save_pretrained(folder)
