"""Loading a checkpoint through transformers, and refusing what it would load with random weights in the gaps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from soundfleet_schemas import BackendSpec, ErrorCode, SoundfleetError, error
from soundfleet_schemas.requests import REFERENCE

from ..backends.contract import ModelConfig
from ..engine.faults import is_out_of_memory, is_poison
from . import codec as codecs
from .codec import Codec
from .conditions import MelodyEncoder, TextEncoder
from .files import Missing, find, lacks, weights_of
from .pattern import Pattern
from .precision import NAMES, dtype_of
from .weights import Weights, take

CLASSES = {
    "musicgen": "MusicgenForConditionalGeneration",
    "musicgen_melody": "MusicgenMelodyForConditionalGeneration",
}
"""By the ``model_type`` of the checkpoint's config.json."""
SIZES = {1024: "small", 1536: "medium", 2048: "large"}
"""Of the published checkpoints, by the width of their decoders; a fine-tuned one may have any other."""
UNSAID_SIZE = "medium"
"""Of the names that say none: the melody checkpoints'."""
UNUSED = (".codebook.inited", ".codebook.cluster_size", ".codebook.embed_avg", "embed_positions.weights")
"""Tensors that only training needs, or that are computed."""
CHUNK_FRAMES = {"cpu": 50, "cuda": 500}
"""Frames that the codec decodes per step; on a CPU about as long as a token."""


@dataclass(slots=True)
class Checkpoint:
    """Everything of a loaded checkpoint, on its device."""

    weights: Weights
    text: TextEncoder
    melody: MelodyEncoder | None
    codec: Codec
    pattern: Pattern
    files: tuple[str, ...]
    other_bytes: int
    """Of the text encoder and the codec."""

    def named(self, name: str) -> dict[str, Any]:
        """What a result says of the checkpoint."""
        return {"checkpoint": name, "precision": NAMES[self.weights.dtype], "weights": list(self.files)}


def load(spec: BackendSpec, source: ModelConfig, device: torch.device) -> Checkpoint:
    """Load a checkpoint; raises BACKEND_NOT_READY when its files are not here, MODEL_LOAD_FAILED when they are bad."""
    found = find(spec, source)
    if isinstance(found, Missing):
        raise error(ErrorCode.BACKEND_NOT_READY, f"{spec.backend}: {found.reason}")
    if absent := lacks(found):
        raise _unusable(spec, found, f"{', '.join(absent)} missing")
    try:
        model, tokenizer = _read(found, spec)
        files = weights_of(found)
    except (SoundfleetError, MemoryError):
        raise
    except Exception as exc:  # configurations, tensors and tokenizers raise whatever they like
        if is_out_of_memory(exc) or is_poison(exc):  # the machine's fault, which the engine judges
            raise
        raise _unusable(spec, found, f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}") from exc
    dtype = dtype_of(source.precision, device)
    weights = take(model, device, dtype)
    model.to(device)
    config = model.config.decoder
    return Checkpoint(
        weights=weights,
        text=TextEncoder(model, tokenizer),
        melody=MelodyEncoder(model) if model.config.model_type == "musicgen_melody" else None,
        codec=Codec(model.audio_encoder, config.audio_channels, CHUNK_FRAMES[device.type]),
        pattern=Pattern(config.num_codebooks, config.audio_channels, config.pad_token_id),
        files=files,
        other_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
    )


def _read(folder: Path, spec: BackendSpec) -> tuple[Any, Any]:
    """Return the model in float32 on the CPU, and the tokenizer."""
    import transformers

    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # what goes wrong is told once, in the error
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    kind = config.model_type
    if kind not in CLASSES:
        raise _unusable(spec, folder, f"it is a {kind}, not a {' or '.join(CLASSES)}")
    if strange := _strangeness(config, spec):
        raise _unusable(spec, folder, strange)
    codecs.check(config.audio_encoder, folder)
    if (rate := config.audio_encoder.sampling_rate) != spec.sample_rate:
        raise _unusable(spec, folder, f"its sample rate is {rate} Hz, not {spec.sample_rate}")
    model, report = getattr(transformers, CLASSES[kind]).from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    if absent := sorted(key for key in report["missing_keys"] if not key.endswith(UNUSED)):
        raise _unusable(spec, folder, f"{len(absent)} of its tensors are missing, among them {absent[0]}")
    if report["mismatched_keys"]:
        raise _unusable(spec, folder, f"a tensor has another shape: {sorted(report['mismatched_keys'])[0]}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if len(tokenizer) > config.text_encoder.vocab_size:
        raise _unusable(spec, folder, f"its tokenizer knows {len(tokenizer)} tokens, its text encoder fewer")
    return model.eval(), tokenizer


def _strangeness(config: Any, spec: BackendSpec) -> str:
    """Say what makes a checkpoint another than the one that is named; empty of the right one."""
    follows = config.model_type == "musicgen_melody"
    if follows != (REFERENCE in spec.inputs):
        return f"it is a {config.model_type}, which follows {'a' if follows else 'no'} melody"
    if spec.channels is not None and config.decoder.audio_channels != spec.channels:
        return f"it is {'mono' if config.decoder.audio_channels == 1 else 'stereo'}"
    named = next((size for size in SIZES.values() if size in spec.model_version), UNSAID_SIZE)
    size = SIZES.get(config.decoder.hidden_size, named)
    return "" if size == named else f"it is of the size {size}"


def _unusable(spec: BackendSpec, folder: Path, reason: str) -> SoundfleetError:
    return error(
        ErrorCode.MODEL_LOAD_FAILED,
        f"the files of {spec.backend} in {folder} cannot be used: {reason}",
        f"Replace them by those of {spec.model_version}: soundfleet backends pull {spec.backend}",
    )
