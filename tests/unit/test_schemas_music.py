"""The options of a generation: each acts on its own family of models, or is refused."""

from __future__ import annotations

from typing import Any

import pytest

from soundfleet_schemas import (
    CATALOG,
    BackendSpec,
    ErrorCode,
    GenerationRequest,
    JobSource,
    SamplingOptions,
    SongOptions,
    SoundfleetError,
    Task,
    decode_request,
    encode,
    validate,
)
from soundfleet_schemas.music import TRACKS

BASE = "ace_step_of_everything"
CATALOGUE: dict[str, BackendSpec] = {
    **CATALOG,
    BASE: BackendSpec(
        backend=BASE,
        kind=CATALOG["ace_step"].kind,
        type=CATALOG["ace_step"].type,
        name="all tasks",
        model_version="1",
        sample_rate=48_000,
        licence="MIT",
        min_duration_sec=5,
        max_duration_sec=600,
        tasks=tuple(Task),
        inputs=("source", "reference"),
        default_inference_steps=50,
    ),
}
SOURCE = JobSource(job_id="5f0c9a44-1b6e-4a0e-8d0e-3c1a2b9d8e7f")


def song(source: Any = None, backend: str = BASE, **fields: Any) -> GenerationRequest:
    """A song of 30 seconds by ACE-Step."""
    return GenerationRequest(
        prompt="rain", duration_sec=30, seed=1, backend=backend, source=source, song=SongOptions(**fields)
    )


ACCEPTED = [
    song(),
    song(lyrics="[verse]\nla la", language="yue", bpm=90, key="F# minor", time_signature="3", shift=1.0),
    song(SOURCE, task=Task.cover, cover_strength=0.5),
    song(SOURCE, task=Task.repaint),
    song(SOURCE, task=Task.repaint, repaint_start_sec=10.0, repaint_end_sec=30.0),
    song(SOURCE, task=Task.extract, tracks=("vocals",)),
    song(SOURCE, task=Task.complete, tracks=("drums", "bass")),
    song(lora="rap", lora_scale=0.5),
    GenerationRequest(prompt="x", duration_sec=30, seed=1, backend="musicgen", source=SOURCE),
    GenerationRequest(prompt="x", duration_sec=30, seed=1, backend="musicgen", sampling=SamplingOptions(top_k=0)),
]
REFUSED = [
    (song(SOURCE), "source does not act on the task text2music"),
    (song(task=Task.cover), "a source, which the request does not name"),
    (song(SOURCE, backend="ace_step", task=Task.lego, tracks=("bass",)), "text2music, cover, repaint on ace_step"),
    (song(cover_strength=0.5), "cover_strength does not act on the task text2music"),
    (song(repaint_end_sec=9.0), "repaint_end_sec does not act on the task text2music"),
    (song(SOURCE, task=Task.repaint, repaint_start_sec=30.0), "0 to below duration_sec, 30"),
    (song(SOURCE, task=Task.repaint, repaint_start_sec=9.0, repaint_end_sec=9.0), "more than repaint_start_sec"),
    (song(SOURCE, task=Task.repaint, repaint_end_sec=31.0), "at most 30"),
    (song(SOURCE, task=Task.extract), "one track on the task extract"),
    (song(SOURCE, task=Task.lego, tracks=("bass", "drums")), "one track on the task lego"),
    (song(SOURCE, task=Task.complete), "one track or more"),
    (song(SOURCE, task=Task.complete, tracks=("kazoo",)), "'kazoo'; it takes vocals"),
    (song(tracks=("bass",)), "tracks does not act on the task text2music"),
    (song(lora_scale=0.5), "lora_scale does not act without song.lora"),
    (song(lyrics="x" * 10_001), "10001 characters long"),
    (song(backend="musicgen"), "song does not act on backend musicgen"),
    (song(shift=float("nan")), "shift is nan"),
    (
        GenerationRequest(prompt="x", duration_sec=30, seed=1, backend="ace_step", sampling=SamplingOptions()),
        "sampling does not act on backend ace_step",
    ),
    (
        GenerationRequest(prompt="x", duration_sec=30, seed=1, backend="musicgen", reference=SOURCE),
        "reference does not act on backend musicgen",
    ),
]


@pytest.mark.parametrize("request_", ACCEPTED, ids=lambda request: str(request.song or request.sampling))
def test_options_that_act_are_accepted(request_: GenerationRequest) -> None:
    """As a worker reads them: decoded from the message."""
    validate(decode_request(encode(request_)), catalog=CATALOGUE)


@pytest.mark.parametrize(("request_", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_options_that_cannot_act_are_refused_with_the_reason(request_: GenerationRequest, why: str) -> None:
    """In one sentence."""
    with pytest.raises(SoundfleetError, match=why) as refusal:
        validate(request_, catalog=CATALOGUE)
    assert refusal.value.code is ErrorCode.INVALID_OPTION
    assert not refusal.value.info.retryable


def test_every_track_has_a_name_that_travels() -> None:
    """As it stands in messages and on the command line."""
    assert all(track.isidentifier() and track.islower() for track in TRACKS)
