"""The generation models of the catalogue: the synthesizer, MusicGen's and ACE-Step's checkpoints."""

from __future__ import annotations

from .catalog_separation import STEMS
from .enums import BackendType, Kind, SchedulerType, Task
from .spec import BackendSpec

SKETCH = BackendSpec(
    backend="sketch",
    kind=Kind.generate,
    type=BackendType.Sketch,
    name="Sketch",
    model_version="sketch-1",
    sample_rate=48_000,
    licence="MIT",
    min_duration_sec=5.0,
    max_duration_sec=240.0,
    stems=STEMS,
    memory_mb=64,
)
LONGEST_SEC = 600.0
"""Of ACE-Step 1.5. ``ace_step`` itself keeps to the 240 s of the data model."""
_CONVERTED = ("xl_turbo", "xl_base")
"""Whose makers publish them in diffusers' layout; the others are converted with its script."""
_ON_ALL = (Task.text2music, Task.cover, Task.repaint)
_ON_BASE = tuple(Task)


def _musicgen(suffix: str, memory_mb: int, *, melody: bool = False) -> BackendSpec:
    """Return the spec of a checkpoint of MusicGen (Copet et al., arXiv:2306.05284)."""
    checkpoint = f"musicgen-{suffix or 'small'}"
    return BackendSpec(
        backend=f"musicgen_{suffix.replace('-', '_')}" if suffix else "musicgen",
        kind=Kind.generate,
        type=BackendType.MusicGen,
        name=f"MusicGen-{(suffix or 'small').title()}",
        model_version=checkpoint,
        sample_rate=32_000,
        licence="CC-BY-NC-4.0",
        repository=f"facebook/{checkpoint}",
        homepage="https://github.com/facebookresearch/audiocraft",
        min_duration_sec=5.0,
        max_duration_sec=120.0,
        memory_mb=memory_mb,
        inputs=("source", "reference") if melody else ("source",),
        default_guidance_scale=3.0,
        channels=2 if suffix.startswith("stereo") else 1,
    )


def _ace_step(suffix: str, name: str, memory_mb: int, **differs: object) -> BackendSpec:
    """Return the spec of a checkpoint of ACE-Step 1.5 (github.com/ace-step/ACE-Step-1.5)."""
    checkpoint = f"acestep-v15-{suffix.replace('_', '-') or 'turbo'}"
    turbo = {"tasks": _ON_ALL, "default_inference_steps": 8, "default_guidance_scale": 1.0}
    fields: dict[str, object] = {
        "backend": f"ace_step_{suffix}" if suffix else "ace_step",
        "kind": Kind.generate,
        "type": BackendType.AceStep,
        "name": f"ACE-Step-1.5-{name}",
        "model_version": checkpoint,
        "sample_rate": 48_000,
        "licence": "MIT",
        "repository": f"ACE-Step/{checkpoint}-diffusers" if suffix in _CONVERTED else "",
        "homepage": "https://github.com/ace-step/ACE-Step-1.5",
        "min_duration_sec": 5.0,
        "max_duration_sec": LONGEST_SEC,
        "memory_mb": memory_mb,
        "inputs": ("source", "reference"),
        "default_scheduler": SchedulerType.Euler,
        "channels": 2,
    }
    return BackendSpec(**{**fields, **turbo, **differs})  # type: ignore[arg-type]


GENERATION = (
    SKETCH,
    _musicgen("", 2048),
    _musicgen("medium", 7168),
    _musicgen("large", 14_336),
    _musicgen("melody", 7168, melody=True),
    _musicgen("melody-large", 14_336, melody=True),
    _musicgen("stereo-small", 2560),
    _musicgen("stereo-medium", 7680),
    _musicgen("stereo-large", 14_848),
    _musicgen("stereo-melody", 7680, melody=True),
    _musicgen("stereo-melody-large", 14_848, melody=True),
    _ace_step("", "Turbo", 8192, max_duration_sec=240.0),
    _ace_step("base", "Base", 8192, tasks=_ON_BASE, default_inference_steps=50, default_guidance_scale=7.0),
    _ace_step("sft", "SFT", 8192, default_inference_steps=50, default_guidance_scale=7.0),
    _ace_step("xl_turbo", "XL-Turbo", 14_336),
    _ace_step("xl_base", "XL-Base", 14_336, tasks=_ON_BASE, default_inference_steps=50, default_guidance_scale=7.0),
    _ace_step("xl_sft", "XL-SFT", 14_336, default_inference_steps=50, default_guidance_scale=7.0),
)
