"""What a request comes to on a checkpoint: the effective parameters, and what the caller should know of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from soundfleet_schemas import BackendSpec, ErrorCode, GenerationRequest, SchedulerType, SoundfleetError, Task, error
from soundfleet_schemas.music import SongOptions

from ..backends.contract import EngineJob
from .parts import SHORTEST_SEC

if TYPE_CHECKING:
    from .parts import Parts

TURBO_STEPS, STEPS = 8, 50
GUIDANCE, SHIFT = 7.0, 3.0
"""Of the checkpoints that leave them open."""
MAY_BE_SILENT = (Task.extract, Task.lego, Task.complete)
"""A source without drums has no drums to extract."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run's parameters, as they act."""

    prompt: str
    song: SongOptions
    seed: int
    steps: int
    scheduler: SchedulerType
    guidance_scale: float
    """1.0 is off."""
    shift: float
    samples: int
    """Of the track."""
    frames: int
    """Of the latents: the track, or the shortest that the model was trained on."""
    spoken_sec: int
    """What the model is told of the duration."""
    warnings: tuple[str, ...] = field(default=())

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1.0

    @property
    def covered(self) -> bool:
        """Whether a second, wordier opinion is mixed in: a cover that follows its source in part only."""
        return self.song.task is Task.cover and self.song.cover_strength < 1.0

    @property
    def opinions(self) -> int:
        """Rows in a call of the transformer: worded, wordless, and as if there were no source."""
        return 1 + self.guided + self.covered

    def parameters(self) -> dict[str, Any]:
        """Return what goes into the result."""
        song = self.song
        described = {
            "prompt": self.prompt,
            "seed": self.seed,
            "task": song.task.value,
            "inference_steps": self.steps,
            "scheduler": self.scheduler.value,
            "guidance_scale": self.guidance_scale,
            "shift": self.shift,
            "language": song.language,
            "bpm": song.bpm,
            "key": song.key,
            "time_signature": song.time_signature,
            "generated_sec": self.spoken_sec,
        }
        if song.lora is not None:
            described |= {"lora": song.lora, "lora_scale": song.lora_scale}
        if song.task is Task.cover:
            described["cover_strength"] = song.cover_strength
        return described


def plan_of(job: EngineJob, parts: Parts, source_samples: int | None) -> Plan:
    """Return the plan of a job; raises INVALID_OPTION for what this checkpoint cannot do.

    A task with a source works on as much of it as the duration says, and its track is never longer than its source.
    """
    request = cast(GenerationRequest, job.request)
    song = request.song or SongOptions()
    _check_task(song, job.spec, parts, source_samples)
    warnings: list[str] = []
    samples = request.duration_sec * parts.sample_rate
    if source_samples is not None:
        if source_samples > samples:
            warnings.append(f"only the first {request.duration_sec} s of the source were used: its duration is longer")
        elif source_samples < samples:
            length_sec = source_samples / parts.sample_rate
            warnings.append(f"the track is {length_sec:.1f} s, not {request.duration_sec} s: its source is no longer")
        samples = min(samples, source_samples)
    frames = parts.frames_of(max(samples, SHORTEST_SEC * parts.sample_rate))
    return Plan(
        prompt=request.prompt,
        song=song,
        seed=request.seed or 0,
        steps=request.inference_steps or job.spec.default_inference_steps or (TURBO_STEPS if parts.turbo else STEPS),
        scheduler=request.scheduler or job.spec.default_scheduler or SchedulerType.Euler,
        guidance_scale=_guidance(request, job.spec, parts, warnings),
        shift=song.shift or SHIFT,
        samples=samples,
        frames=frames,
        spoken_sec=int(frames / parts.frames_per_sec),
        warnings=tuple(warnings),
    )


def _guidance(request: GenerationRequest, spec: BackendSpec, parts: Parts, warnings: list[str]) -> float:
    asked = request.guidance_scale
    if not parts.turbo:
        return asked or spec.default_guidance_scale or GUIDANCE
    if asked is not None and asked > 1.0:
        warnings.append(f"guidance_scale {asked:g} did not act: guidance is distilled into {spec.model_version}")
    return 1.0


def _check_task(song: SongOptions, spec: BackendSpec, parts: Parts, source_samples: int | None) -> None:
    task = song.task
    if spec.tasks and task not in spec.tasks:
        raise _impossible(f"{spec.model_version} cannot {task}; it has {', '.join(spec.tasks)}")
    if task is Task.cover and (parts.audio_tokenizer is None or parts.audio_token_detokenizer is None):
        raise _impossible(f"this conversion of {spec.model_version} has no audio tokenizer, which covers need")
    if task is not Task.text2music and not source_samples:
        raise _impossible(f"task {task} works on a source, and there is none")
    if task is Task.text2music and source_samples:
        raise _impossible("text2music takes no source")
    if task is Task.repaint and source_samples:
        start, end = song.repaint_start_sec or 0.0, song.repaint_end_sec
        if start >= source_samples / parts.sample_rate or (end is not None and end <= start):
            raise _impossible("the part to repaint is not within the source")


def _impossible(reason: str) -> SoundfleetError:
    return error(ErrorCode.INVALID_OPTION, reason)
