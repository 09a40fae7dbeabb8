"""LoRAs by name: low-rank additions to the transformer's linear layers, for the runs that ask for them.

E. Hu and others, "LoRA: Low-Rank Adaptation of Large Language Models", 2021 (arXiv:2106.09685). The weights stay as
they are: a layer adds its LoRA's part only while that LoRA is on, so runs without it are not touched. Files as peft and
as diffusers write them, ``.safetensors`` only.
"""

from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from soundfleet_schemas import ErrorCode, SoundfleetError, error
from soundfleet_schemas.music import NAME

from ..engine.faults import is_out_of_memory, is_poison
from .files import checksum_of

if TYPE_CHECKING:
    import torch

KEPT = 8
FILES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
SETTINGS = "adapter_config.json"
_PREFIXES = ("base_model.model.", "transformer.", "decoder.")
_LAYERS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "o_proj": "to_out.0"}
"""Names in the original's layers -> in diffusers'."""
_WEIGHT = re.compile(r"(?P<layer>.+)\.lora_(?P<side>A|B|down|up)(\.default)?\.weight")
_SIDES = {"A": "A", "down": "A", "B": "B", "up": "B"}


@dataclass(frozen=True, slots=True)
class Addition:
    """What a layer adds to its output: ``factor`` * (x @ down.T) @ up.T."""

    down: torch.Tensor
    up: torch.Tensor
    factor: float


@dataclass(frozen=True, slots=True)
class Lora:
    """One LoRA, as its files were when it was read."""

    name: str
    marks: tuple[tuple[str, int, int], ...]
    """Path, time and size of each file: under others it is another LoRA."""
    weights: str = field(compare=False)
    """Name and checksum, for results."""
    additions: Mapping[str, Addition] = field(compare=False, repr=False)
    """By layer."""


class Loras:
    """The LoRAs of one folder on one transformer."""

    def __init__(self, transformer: Any, folder: Path | None) -> None:
        self._transformer = transformer
        self._folder = folder
        self._known: OrderedDict[str, Lora] = OrderedDict()
        self._hooked: set[str] = set()
        self._on: Mapping[str, Addition] = {}
        self._scale = 1.0

    def find(self, name: str) -> Lora:
        """Return a LoRA, read anew if its files are others; raises INVALID_OPTION where none is, or it does not fit.

        A run keeps the one that it began with, whatever becomes of its files.
        """
        lora = self._known.pop(name, None)
        files = self._files_of(name)
        marks = _marks_of(name, files)
        if lora is None or lora.marks != marks:
            lora = self._read(name, files, marks)
        self._known[name] = lora
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return lora

    @contextmanager
    def on(self, lora: Lora | None, scale: float) -> Iterator[None]:
        """Let a LoRA act, or none, on the calls inside."""
        if lora is not None:
            self._on, self._scale = lora.additions, scale
        try:
            yield
        finally:
            self._on = {}

    def _read(self, name: str, files: Sequence[Path], marks: tuple[tuple[str, int, int], ...]) -> Lora:
        path, *beside = files
        try:
            settings = json.loads(beside[0].read_text(encoding="utf-8")) if beside else {}
        except (OSError, ValueError) as exc:
            raise _unusable(name, f"{SETTINGS}: {exc}") from None
        try:
            additions = self._additions(path, settings)
            weights = f"lora-{name}-{checksum_of(files)}"
        except SoundfleetError:
            raise
        except Exception as exc:  # a file of any content
            if is_out_of_memory(exc) or is_poison(exc):  # the device's fault, which the engine judges
                raise
            raise _unusable(name, f"{type(exc).__name__}: {exc}") from exc
        for layer in set(additions) - self._hooked:
            self._hook(layer)
        return Lora(name, marks, weights, additions)

    def _files_of(self, name: str) -> tuple[Path, ...]:
        """Return the file of the weights, and that of the settings if there is one."""
        if self._folder is None:
            raise error(
                ErrorCode.INVALID_OPTION, f"LoRA {name} is not here", "Set the worker's model_dir: it holds loras/NAME."
            )
        if not re.fullmatch(NAME, name):
            raise error(ErrorCode.INVALID_OPTION, f"{name!r} is no LoRA's name")
        candidates = (*(self._folder / name / file for file in FILES), self._folder / f"{name}.safetensors")
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise error(
                ErrorCode.INVALID_OPTION,
                f"LoRA {name} is not on this worker",
                f"Ask the operator to put {FILES[0]} into the folder loras/{name} of the model_dir.",
            )
        settings = self._folder / name / SETTINGS
        return (path, settings) if settings.is_file() else (path,)

    def _additions(self, path: Path, settings: dict[str, Any]) -> dict[str, Addition]:
        from safetensors import safe_open

        with safe_open(str(path), framework="pt") as file:
            settings = settings or _embedded(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if unsupported := [k for k in ("use_dora", "alpha_pattern", "rank_pattern") if settings.get(k)]:
            raise ValueError(f"{', '.join(unsupported)} is not supported")
        sides: dict[str, dict[str, Any]] = {}
        for key, tensor in tensors.items():
            if key.endswith(".alpha"):
                sides.setdefault(_layer_of(key.removesuffix(".alpha")), {})["alpha"] = float(tensor)
                continue
            match = _WEIGHT.fullmatch(key)
            if match is None:
                raise ValueError(f"{key} is no weight of a LoRA")
            sides.setdefault(_layer_of(match["layer"]), {})[_SIDES[match["side"]]] = tensor
        if not sides:
            raise ValueError("it holds no weights")
        return {layer: self._addition(layer, side, settings) for layer, side in sides.items()}

    def _addition(self, layer: str, side: dict[str, Any], settings: dict[str, Any]) -> Addition:
        import torch

        try:
            linear = self._transformer.get_submodule(layer)
        except AttributeError:
            raise ValueError(f"this checkpoint has no layer {layer}") from None
        if not {"A", "B"} <= set(side):
            raise ValueError(f"layer {layer} has one side only")
        down, up = side["A"], side["B"]
        if not isinstance(linear, torch.nn.Linear) or (down.shape[1], up.shape[0]) != (
            linear.in_features,
            linear.out_features,
        ):
            raise ValueError(f"layer {layer} has another shape in this checkpoint")
        rank = down.shape[0]
        alpha = float(side.get("alpha", settings.get("lora_alpha", rank)))
        factor = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        device, floats = linear.weight.device, linear.weight.dtype
        down, up = (tensor.to(device, floats, copy=True) for tensor in (down, up))  # else mapped from the file
        return Addition(down, up, factor)

    def _hook(self, layer: str) -> None:
        def add(_module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            addition = self._on.get(layer)
            if addition is None:
                return output
            low = inputs[0] @ addition.down.T
            return output + (low @ addition.up.T) * (addition.factor * self._scale)

        self._transformer.get_submodule(layer).register_forward_hook(add)
        self._hooked.add(layer)


def _marks_of(name: str, files: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    try:
        stats = [(path, path.stat()) for path in files]
    except OSError as exc:  # removed at this moment
        raise _unusable(name, str(exc)) from None
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)


def _embedded(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that diffusers writes into the file itself."""
    written = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    return {key.removeprefix("transformer."): value for key, value in cast(dict[str, Any], written).items()}


def _layer_of(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    parts = [_LAYERS.get(part, part) for part in name.split(".")]
    return ".".join(parts)


def _unusable(name: str, reason: str) -> SoundfleetError:
    return error(ErrorCode.INVALID_OPTION, f"LoRA {name} cannot be used: {reason}", "Choose a LoRA of this checkpoint.")
