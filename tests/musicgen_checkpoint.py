"""Tiny MusicGen checkpoints with random weights, in the layout in which the real ones are published.

Everything is as in a download but the sizes: T5, EnCodec, the decoder and the projection by transformers' own classes,
a tokenizer of single characters, weights in safetensors. A frame is 0.2 s instead of 0.02 s, so that a window of 30 s
has 150 frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from soundfleet_schemas import CATALOG, BackendSpec, GenerationRequest, Precision, SamplingOptions
from soundfleet_worker.backends.contract import EngineJob, ModelConfig, Output, Run
from soundfleet_worker.backends.musicgen import MusicGenFactory, MusicGenModel
from soundfleet_worker.musicgen.loading import load
from soundfleet_worker.musicgen.pace import Pace

RATE = 3_200
HOP = 640
FRAME_RATE = 5
CODES = 64
NAME = "musicgen-small"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"


def spec_of(**changes: Any) -> BackendSpec:
    """The catalogue's MusicGen at the tiny checkpoints' sample rate."""
    spec = CATALOG["musicgen"]
    fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
    return BackendSpec(**{**fields, "sample_rate": RATE, "model_version": NAME, **changes})


def save_checkpoint(
    folder: Path, *, stereo: bool = False, melody: bool = False, seed: int = 1, rate: int = RATE, **how: Any
) -> Path:
    """Write a checkpoint and return its folder; ``how`` goes to ``save_pretrained`` (``max_shard_size``)."""
    model = build(stereo=stereo, melody=melody, seed=seed, rate=rate)
    model.save_pretrained(folder, **how)
    tokenizer().save_pretrained(folder)
    return folder


def build(*, stereo: bool = False, melody: bool = False, seed: int = 1, rate: int = RATE) -> Any:
    """Make the model, in eval mode."""
    torch.manual_seed(seed)
    text = transformers.T5Config(vocab_size=128, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    audio = transformers.EncodecConfig(
        sampling_rate=rate,
        target_bandwidths=[0.12 * rate / RATE],
        upsampling_ratios=[8, 5, 4, 4],
        num_filters=2,
        hidden_size=8,
        codebook_size=CODES,
        codebook_dim=8,
        use_causal_conv=False,
        use_conv_shortcut=False,
    )
    sizes: dict[str, Any] = {
        "vocab_size": CODES,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 64,
        "num_codebooks": 8 if stereo else 4,
        "audio_channels": 2 if stereo else 1,
        "pad_token_id": CODES,
        "bos_token_id": CODES,
    }
    if melody:
        decoder: Any = transformers.MusicgenMelodyDecoderConfig(**sizes)
        config: Any = transformers.MusicgenMelodyConfig(
            text_encoder=text, audio_encoder=audio, decoder=decoder, num_chroma=12, chroma_length=20
        )
        model: Any = transformers.MusicgenMelodyForConditionalGeneration(config)
    else:
        decoder = transformers.MusicgenDecoderConfig(**sizes)
        config = transformers.MusicgenConfig(text_encoder=text, audio_encoder=audio, decoder=decoder)
        model = transformers.MusicgenForConditionalGeneration(config)
    _enliven(model)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=CODES,
        decoder_start_token_id=CODES,
        pad_token_id=CODES,
        do_sample=True,
        guidance_scale=3.0,
        max_length=1500,
    )
    return model.eval()


@torch.no_grad()
def _enliven(model: Any) -> None:
    """Draw weights so large that what is decoded depends on every part of the model."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            parameter.normal_(std=1.0 if "embed_tokens" in name else 3.0 / parameter.shape[1] ** 0.5)
        elif parameter.dim() == 1 and "norm" not in name:
            parameter.normal_(std=0.1)
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()


def tokenizer() -> Any:
    """A T5 tokenizer that knows letters and a few signs; everything else is unknown to it."""
    known = ["<pad>", "</s>", "<unk>", "▁", *LETTERS]
    scores = [(piece, -float(index)) for index, piece in enumerate(known)]
    made = Tokenizer(models.Unigram(scores, unk_id=2))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def load_model(directory: Path, *, slots: int = 8, pace: Pace | None = None) -> MusicGenModel:
    """Load the checkpoint NAME of a directory of models as a worker would, in float32 and with so many slots."""
    source = ModelConfig(model_dir=directory, precision=Precision.Float32)
    if slots == 8 and pace is None:
        model = MusicGenFactory(spec_of(), source).load("cpu", lambda _status, _percent: None)
        assert isinstance(model, MusicGenModel)
        return model
    with torch.inference_mode():
        return MusicGenModel(spec_of(), load(spec_of(), source, torch.device("cpu")), slots, pace)


def job_of(
    scratch: Path,
    prompt: str = "warm lofi",
    seconds: int = 10,
    seed: int = 1,
    inputs: dict[str, np.ndarray] | None = None,
    **sampling: Any,
) -> EngineJob:
    """A job with its own scratch directory below ``scratch``; ``inputs`` is audio by name, (2, samples)."""
    options = SamplingOptions(**sampling)
    request = GenerationRequest(prompt=prompt, duration_sec=seconds, seed=seed, backend="musicgen", sampling=options)
    folder = scratch / request.id
    folder.mkdir(parents=True)
    paths = {}
    for name, audio in (inputs or {}).items():
        paths[name] = folder / f"input-{name}.npy"
        np.save(paths[name], audio.astype(np.float32))
    return EngineJob(request.id, request, spec_of(), inputs=paths, scratch=folder)


def play(model: MusicGenModel, jobs: Sequence[EngineJob]) -> list[Output]:
    """Run jobs beside each other to their ends."""
    runs = [model.begin(job) for job in jobs]
    while going := [run for run in runs if not run.done]:
        model.step(going)
    return [model.finish(run) for run in runs]


def samples_of(output: Output) -> np.ndarray:
    """The track, in memory."""
    return np.array(output.audio["track"])


def finish_all(model: MusicGenModel, runs: Sequence[Run]) -> None:
    """Step runs until all are done."""
    while going := [run for run in runs if not run.done]:
        model.step(going)
