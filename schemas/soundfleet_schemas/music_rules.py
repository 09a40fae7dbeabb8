"""The rules of ``SamplingOptions`` and ``SongOptions``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .enums import BackendType, Task
from .errors import SoundfleetError, show
from .music import (
    BPM,
    GUIDANCE,
    KEY,
    LANGUAGE,
    LORA_SCALE,
    MAX_LYRICS_CHARS,
    MAX_TOP_K,
    NAME,
    SHIFT,
    TEMPERATURE,
    TIME_SIGNATURES,
    TRACKS,
    SamplingOptions,
    SongOptions,
)
from .refusals import idle, takes
from .requests import SOURCE, GenerationRequest, sources_of
from .spec import BackendSpec

_LANGUAGE, _KEY, _NAME = re.compile(LANGUAGE), re.compile(KEY), re.compile(NAME)
_ONE_TRACK = (Task.extract, Task.lego)


def check_music(request: GenerationRequest, spec: BackendSpec) -> None:
    """Raise INVALID_OPTION for the first option that is out of range or cannot act on this backend."""
    given = sources_of(request)
    for name in sorted(given.keys() - set(spec.inputs)):
        raise idle(name, f"on backend {spec.backend}")
    if request.sampling is not None:
        if spec.type != BackendType.MusicGen:
            raise idle("sampling", f"on backend {spec.backend}; it is for MusicGen")
        _check_sampling(request.sampling)
    if request.song is not None:
        if spec.type != BackendType.AceStep:
            raise idle("song", f"on backend {spec.backend}; it is for ACE-Step")
        _check_song(request.song)
    if spec.type == BackendType.AceStep:
        _check_task(request.song or SongOptions(), request, spec)


def _within(field: str, value: float | None, bounds: tuple[float, float]) -> Iterator[SoundfleetError]:
    if value is not None and not bounds[0] <= value <= bounds[1]:
        yield takes(field, show(value), f"{bounds[0]:g} to {bounds[1]:g}")


def _like(field: str, value: str | None, pattern: re.Pattern[str], allowed: str) -> Iterator[SoundfleetError]:
    if value is not None and not pattern.fullmatch(value):
        yield takes(field, show(value), allowed)


def _check_sampling(sampling: SamplingOptions) -> None:
    for problem in (
        *_within("sampling.guidance", sampling.guidance, GUIDANCE),
        *_within("sampling.top_k", sampling.top_k, (0, MAX_TOP_K)),
        *_within("sampling.top_p", sampling.top_p, (0.0, 1.0)),
        *_within("sampling.temperature", sampling.temperature, TEMPERATURE),
    ):
        raise problem


def _check_song(song: SongOptions) -> None:
    for problem in (
        *_within("song.bpm", song.bpm, BPM),
        *_within("song.shift", song.shift, SHIFT),
        *_within("song.cover_strength", song.cover_strength, (0.0, 1.0)),
        *_within("song.lora_scale", song.lora_scale, LORA_SCALE),
        *_like("song.language", song.language, _LANGUAGE, "a code of two or three letters, like en, or unknown"),
        *_like("song.key", song.key, _KEY, "a key like C major or F# minor"),
        *_like("song.lora", song.lora, _NAME, "the name of a folder: letters, digits and . _ -"),
    ):
        raise problem
    if len(song.lyrics) > MAX_LYRICS_CHARS:
        raise takes("song.lyrics", f"{len(song.lyrics)} characters long", f"at most {MAX_LYRICS_CHARS}")
    if song.time_signature is not None and song.time_signature not in TIME_SIGNATURES:
        raise takes("song.time_signature", show(song.time_signature), ", ".join(TIME_SIGNATURES))
    if song.lora is None and song.lora_scale != 1.0:
        raise idle("song.lora_scale", "without song.lora")


def _check_task(song: SongOptions, request: GenerationRequest, spec: BackendSpec) -> None:
    """What a task needs, and what does not act on it."""
    task, has_source = song.task, request.source is not None
    if task not in spec.tasks:
        raise takes("song.task", str(task), f"{', '.join(spec.tasks)} on {spec.backend}")
    if has_source and task is Task.text2music:
        raise idle(SOURCE, "on the task text2music; name another song.task")
    if not has_source and task is not Task.text2music:
        raise takes("song.task", str(task), "a source, which the request does not name")
    if song.cover_strength != 1.0 and task is not Task.cover:
        raise idle("song.cover_strength", f"on the task {task}")
    _check_repaint(song, request.duration_sec)
    _check_tracks(song)


def _check_repaint(song: SongOptions, duration_sec: int) -> None:
    start, end = song.repaint_start_sec, song.repaint_end_sec
    if song.task is not Task.repaint:
        for field, value in (("song.repaint_start_sec", start), ("song.repaint_end_sec", end)):
            if value is not None:
                raise idle(field, f"on the task {song.task}")
        return
    if start is not None and not 0 <= start < duration_sec:
        raise takes("song.repaint_start_sec", show(start), f"0 to below duration_sec, {duration_sec}")
    if end is not None and not (start or 0.0) < end <= duration_sec:
        raise takes("song.repaint_end_sec", show(end), f"more than repaint_start_sec and at most {duration_sec}")


def _check_tracks(song: SongOptions) -> None:
    allowed = ", ".join(TRACKS)
    if unknown := [track for track in song.tracks if track not in TRACKS]:
        raise takes("song.tracks", show(unknown[0]), allowed)
    if song.task in _ONE_TRACK and len(song.tracks) != 1:
        raise takes("song.tracks", show(",".join(song.tracks)), f"one track on the task {song.task}, of {allowed}")
    if song.task is Task.complete and not song.tracks:
        raise takes("song.tracks", "empty", f"one track or more on the task complete, of {allowed}")
    if song.tracks and song.task not in (*_ONE_TRACK, Task.complete):
        raise idle("song.tracks", f"on the task {song.task}")
