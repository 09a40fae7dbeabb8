"""Tiny ACE-Step checkpoints of random weights, saved in the published layout: a folder per component and an index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AceStepPipeline, AceStepTransformer1DModel, AutoencoderOobleck, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ace_step import AceStepAudioTokenDetokenizer, AceStepAudioTokenizer, AceStepConditionEncoder
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

from soundfleet_schemas import CATALOG, BackendSpec, GenerationRequest, Precision, SongOptions
from soundfleet_worker.ace_step import loading
from soundfleet_worker.ace_step.launches import Sizes
from soundfleet_worker.backends.ace_step import AceStepModel
from soundfleet_worker.backends.contract import EngineJob, ModelConfig, Output

CHANNELS, WIDTH, TEXT_WIDTH = 4, 32, 16
ENDS = "<|endoftext|>"
WORDS = (
    "# Instruction Fill the audio semantic mask based on the given conditions: # Caption # Metas - bpm: N/A"
    " - timesignature: N/A - keyscale: N/A - duration: 10 seconds # Languages en # Lyric Repaint the mask area"
    " Generate audio semantic tokens Extract the track from the audio warm lofi piano soft rain verse chorus"
)
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
_BLOCK: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": 64, "sliding_window": 16, **_HEADS}


def spec_of(version: str = "acestep-v15-turbo") -> BackendSpec:
    """The catalogue's entry of a checkpoint; of one that it does not have, the first's under that name."""
    entries = {spec.model_version: spec for spec in CATALOG.values()}
    entry = entries.get(version, CATALOG["ace_step"])
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return BackendSpec(**{**fields, "model_version": version, "repository": entry.repository * (version in entries)})


def build(folder: Path, *, turbo: bool = True, cover: bool = True, seed: int = 1, shards: bool = False) -> Path:
    """Save a checkpoint into ``folder`` as the hub has it; the transformer in several files when ``shards``."""
    torch.manual_seed(seed)
    pipeline = AceStepPipeline(
        vae=_vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        transformer=_transformer("turbo" if turbo else "sft" if "sft" in folder.name else "base"),
        condition_encoder=_condition_encoder(),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
        audio_tokenizer=_audio_tokenizer() if cover else None,
        audio_token_detokenizer=_detokenizer() if cover else None,
    )
    pipeline.save_pretrained(folder)
    if shards:
        (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
        pipeline.transformer.save_pretrained(folder / "transformer", max_shard_size="40KB")
    return folder


ATTENTION = ("layers.0.self_attn.q_proj", "layers.1.cross_attn.o_proj")


def build_lora(
    folder: Path,
    name: str,
    *,
    alpha: float = 8.0,
    rank: int = 4,
    seed: int = 1,
    layers: Sequence[str] = ATTENTION,
) -> dict[str, Any]:
    """Save a LoRA as peft does; returns by layer of diffusers' transformer what it adds to the weight."""
    generator = torch.Generator().manual_seed(seed)
    tensors, added = {}, {}
    for layer in layers:
        down = torch.randn((rank, WIDTH), generator=generator)
        up = torch.randn((WIDTH, rank), generator=generator)
        tensors |= {
            f"base_model.model.{layer}.lora_A.weight": down,
            f"base_model.model.{layer}.lora_B.weight": up,
        }
        named = layer.replace("q_proj", "to_q").replace("o_proj", "to_out.0")
        added[f"{named}.weight"] = alpha / rank * up @ down
    (folder / name).mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / name / "adapter_model.safetensors")
    (folder / name / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": alpha}))
    return added


def _vae() -> AutoencoderOobleck:
    return AutoencoderOobleck(
        encoder_hidden_size=2 * CHANNELS,
        downsampling_ratios=[2, 4, 4, 6, 10],
        channel_multiples=[1, 1, 1, 2, 2],
        decoder_channels=2,
        decoder_input_channels=CHANNELS,
        sampling_rate=48_000,
    )


def _transformer(version: str) -> AceStepTransformer1DModel:
    transformer = AceStepTransformer1DModel(
        num_hidden_layers=2,
        in_channels=3 * CHANNELS,
        audio_acoustic_hidden_dim=CHANNELS,
        is_turbo=version == "turbo",
        model_version=version,
        **_BLOCK,
    )
    for layer in transformer.layers:  # else random words are hardly heard
        layer.cross_attn.to_out[0].weight.data *= 6.0
    return transformer


def _condition_encoder() -> AceStepConditionEncoder:
    encoder = AceStepConditionEncoder(
        text_hidden_dim=TEXT_WIDTH,
        timbre_hidden_dim=CHANNELS,
        num_lyric_encoder_hidden_layers=2,
        num_timbre_encoder_hidden_layers=2,
        **_BLOCK,
    )
    encoder.silence_latent.copy_(torch.randn(encoder.silence_latent.shape))
    return encoder


def _audio_tokenizer() -> AceStepAudioTokenizer:
    return AceStepAudioTokenizer(
        audio_acoustic_hidden_dim=CHANNELS, fsq_dim=WIDTH, num_attention_pooler_hidden_layers=1, **_BLOCK
    )


def _detokenizer() -> AceStepAudioTokenDetokenizer:
    return AceStepAudioTokenDetokenizer(
        audio_acoustic_hidden_dim=CHANNELS, num_attention_pooler_hidden_layers=1, **_BLOCK
    )


def text_encoder() -> Qwen3Model:
    """Two small layers."""
    config = Qwen3Config(
        vocab_size=1024,
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        max_position_embeddings=4096,
        **{**_HEADS, "head_dim": 4},
    )
    return Qwen3Model(config).eval()


def tokenizer() -> Qwen2Tokenizer:
    """A byte-level tokenizer of a few hundred merges, learnt from the words that every text has."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=[ENDS], initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator([WORDS], trainer)
    learnt = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learnt["merges"]]
    return Qwen2Tokenizer(vocab=learnt["vocab"], merges=merges)


def load(folder: Path, slots: int = 3, tiles: int = 1, tile_frames: int = 64) -> AceStepModel:
    """Load the checkpoint that lies in ``folder``, by the way that a worker goes: launches of some runs and tiles."""
    spec = spec_of(folder.name)
    parts, found = loading.load(spec, ModelConfig(model_dir=folder.parent, precision=Precision.Float32), "cpu")
    return AceStepModel(spec, parts, found.loras, Sizes(10**9, slots, tiles, tile_frames))


def job_of(spec: BackendSpec, scratch: Path, *, inputs: dict[str, Path] | None = None, **asked: Any) -> EngineJob:
    """Return a job of ten seconds; what is not a field of a request is an option of the song."""
    fields = {name: asked.pop(name) for name in tuple(asked) if name in GenerationRequest.__struct_fields__}
    song = SongOptions(**asked) if asked else None
    wanted = {"prompt": "warm lofi piano", "duration_sec": 10, "seed": 7, "inference_steps": 3, **fields}
    request = GenerationRequest(backend=spec.backend, song=song, **wanted)
    return EngineJob(request.id, request, spec, inputs or {}, scratch / request.id)


def play(model: AceStepModel, *jobs: EngineJob) -> list[Output]:
    """Run jobs together, as the engine does, to their ends."""
    runs = [model.begin(job) for job in jobs]
    while going := [run for run in runs if not run.done]:
        before = sum(run.current_step for run in going)
        model.step(going)
        assert sum(run.current_step for run in going) > before
    return [model.finish(run) for run in runs]


def recording(path: Path, seconds: float, seed: int = 3) -> Path:
    """Write a decoded recording, float32 (2, samples) at 48 kHz."""
    time = np.arange(round(seconds * 48_000)) / 48_000
    noise = np.random.default_rng(seed).standard_normal((2, len(time)))
    np.save(path, (0.3 * np.sin(2 * np.pi * 220 * seed * time) + 0.05 * noise).astype(np.float32))
    return path
