"""From a folder in the converted layout to modules on a device: whatever is wrong with it is MODEL_LOAD_FAILED."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundfleet_schemas import BackendSpec, ErrorCode, Precision, SoundfleetError, error

from ..backends.contract import ModelConfig
from ..engine.faults import is_out_of_memory, is_poison
from .files import COVER, INDEX, REFUSED, WHY_REFUSED, Found, absent_of, find, how_to_get, index_of, weights_of
from .parts import Parts

if TYPE_CHECKING:
    import torch

PIPELINE = "AceStepPipeline"
DISTILLED_LACK = {"null_condition_emb"}
"""Of guidance: a turbo checkpoint never reads it, and a conversion may lack it."""


SIZES = {2048: "2B", 2560: "XL"}
"""Of the published checkpoints, by the width of their transformers; a fine-tuned one may have any other."""
TRAININGS = {"base", "sft"}
"""Of those that are not distilled."""


def dtype_of(precision: Precision, device: str) -> torch.dtype:
    """Return in what the models compute: ``Auto`` is bf16 where the device multiplies it natively, fp32 elsewhere.

    The checkpoints are published in bf16, and their authors compute in it. Latents are fp32 either way. Raises
    BACKEND_NOT_READY for a precision that was named and is not the device's.
    """
    import torch

    from ..backends.precision import floats_of, has_bfloat16

    place = torch.device(device)
    if precision is not Precision.Auto:
        return floats_of(precision, place)
    return torch.bfloat16 if has_bfloat16(place) else torch.float32


def load(spec: BackendSpec, source: ModelConfig, device: str) -> tuple[Parts, Found]:
    """Return a checkpoint's modules, and where they were found; raises BACKEND_NOT_READY or MODEL_LOAD_FAILED."""
    version = spec.model_version
    if version.lower() == REFUSED.lower():
        raise error(ErrorCode.MODEL_LOAD_FAILED, WHY_REFUSED, "Set model_version to acestep-v15-turbo, for example.")
    found = find(spec, source)
    if not isinstance(found, Found):
        raise error(ErrorCode.BACKEND_NOT_READY, f"{spec.backend}: {found.reason}")
    _check_index(spec, found.folder)
    try:
        if strange := _strangeness(found.folder, version):
            raise _unusable(spec, found.folder, strange)
        parts = _read(found.folder, device, dtype_of(source.precision, device))
    except (SoundfleetError, MemoryError):
        raise
    except Exception as exc:  # libraries raise anything over files that are not what they should be
        if is_out_of_memory(exc) or is_poison(exc):  # the device's fault, which the engine judges
            raise
        raise _unusable(spec, found.folder, _first_line(exc)) from exc
    _check(parts, spec, found.folder)
    return parts, found


def _check_index(spec: BackendSpec, folder: Path) -> None:
    """Raise MODEL_LOAD_FAILED unless the folder is of this architecture, with all that is needed."""
    try:
        index = index_of(folder)
    except (OSError, ValueError) as exc:
        raise _unusable(spec, folder, f"{INDEX} cannot be read: {_first_line(exc)}") from None
    if index.get("_class_name") != PIPELINE:
        raise _unusable(spec, folder, f"{INDEX} is of {index.get('_class_name')}, not of {PIPELINE}")
    if absent := absent_of(folder):
        raise _unusable(spec, folder, f"it lacks {', '.join(absent)}")


def _read(folder: Path, device: str, dtype: torch.dtype) -> Parts:
    import torch
    from diffusers import AceStepTransformer1DModel, AutoencoderOobleck
    from diffusers.pipelines import ace_step
    from transformers import AutoModel, AutoTokenizer

    from .oobleck import ready

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    transformer = _component(AceStepTransformer1DModel, folder / "transformer", dtype)
    lack = DISTILLED_LACK if transformer.config.is_turbo else set()
    condition_encoder = _component(ace_step.AceStepConditionEncoder, folder / "condition_encoder", dtype, lack)
    text_encoder, info = AutoModel.from_pretrained(
        folder / "text_encoder", dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    _complete(info, "text_encoder", set())
    vae = ready(_component(AutoencoderOobleck, folder / "vae", torch.float32)).to(dtype)
    audio_tokenizer = audio_token_detokenizer = None
    if all((folder / name / "config.json").is_file() for name in COVER):
        audio_tokenizer = _component(ace_step.AceStepAudioTokenizer, folder / COVER[0], dtype)
        audio_token_detokenizer = _component(ace_step.AceStepAudioTokenDetokenizer, folder / COVER[1], dtype)

    def placed(module: Any) -> Any:
        return None if module is None else module.to(device).eval()

    return Parts(
        transformer=placed(transformer),
        condition_encoder=placed(condition_encoder),
        vae=placed(vae),
        text_encoder=placed(text_encoder),
        audio_tokenizer=placed(audio_tokenizer),
        audio_token_detokenizer=placed(audio_token_detokenizer),
        tokenizer=tokenizer,
        device=torch.device(device),
        dtype=dtype,
        weights=tuple(weights_of(folder)),
    )


def _component(kind: Any, folder: Path, dtype: torch.dtype, may_lack: set[str] | None = None) -> Any:
    """Load one of diffusers' modules: local files, no pickles, and nothing left at random."""
    named = kind.load_config(folder, local_files_only=True).get("_class_name")
    if named != kind.__name__:
        raise ValueError(f"{folder.name} is of class {named}, not {kind.__name__}")
    module, info = kind.from_pretrained(
        folder,
        torch_dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        low_cpu_mem_usage=False,
        output_loading_info=True,
    )
    _complete(info, folder.name, may_lack or set())
    return module


def _complete(info: dict[str, Any], name: str, may_lack: set[str]) -> None:
    """Raise ValueError when the files left weights as they were drawn, or had others."""
    if lacking := sorted(set(info["missing_keys"]) - may_lack):
        raise ValueError(f"{name} lacks {len(lacking)} weights, {lacking[0]} among them")
    if mismatched := info.get("mismatched_keys"):
        raise ValueError(f"{name} has weights of other shapes, {sorted(mismatched)[0]} among them")


def _check(parts: Parts, spec: BackendSpec, folder: Path) -> None:
    """Raise MODEL_LOAD_FAILED when the components do not fit together, or are not those of the catalogue's entry."""
    vae, transformer, encoder = (part.config for part in (parts.vae, parts.transformer, parts.condition_encoder))
    width = transformer.encoder_hidden_size or transformer.hidden_size
    known = len(parts.tokenizer), parts.text_encoder.config.vocab_size
    if known[0] > known[1]:
        raise _unusable(spec, folder, f"its tokenizer knows {known[0]} tokens, its text encoder {known[1]}")
    shapes = {
        "sample rate": (parts.sample_rate, spec.sample_rate),
        "audio channels": (vae.audio_channels, 2),
        "latent channels of the vae": (vae.decoder_input_channels, parts.channels),
        "input channels of the transformer": (transformer.in_channels, 3 * parts.channels),
        "width of the condition encoder": (encoder.hidden_size, width),
        "width of the text encoder": (parts.text_encoder.config.hidden_size, encoder.text_hidden_dim),
    }
    for what, (has, needs) in shapes.items():
        if has != needs:
            raise _unusable(spec, folder, f"the {what} is {has} instead of {needs}")
    if parts.turbo != ("turbo" in spec.model_version):
        kind = "a turbo checkpoint" if parts.turbo else "no turbo checkpoint"
        raise _unusable(spec, folder, f"it is {kind}")


def _strangeness(folder: Path, version: str) -> str:
    """Say what makes a checkpoint another of the family than the one that is named; empty of the right one."""
    config = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    words = _words_of(version)
    named = "XL" if "xl" in words else "2B"
    if (size := SIZES.get(config.get("hidden_size"), named)) != named:
        return f"it is of the size {size}, not {named}"
    said, asked = (TRAININGS & each for each in (_words_of(str(config.get("model_version"))), words))
    strange = said and asked and not said & asked
    return f"it is of the training {min(said)}, not {min(asked)}" if strange else ""


def _words_of(version: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", version.lower()))


def _unusable(spec: BackendSpec, folder: Path, reason: str) -> SoundfleetError:
    return error(
        ErrorCode.MODEL_LOAD_FAILED,
        f"the files of {spec.model_version} in {folder} cannot be used: {reason}",
        f"Replace them by whole ones: {how_to_get(spec)}.",
    )


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {lines[0]}" if lines else type(exc).__name__


def quieten() -> None:
    """Keep the libraries' bars and advice out of the worker's log: what matters is in errors and in results."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
