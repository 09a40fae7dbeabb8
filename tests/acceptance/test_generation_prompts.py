"""Prompts and lyrics of any script through both families: counted in characters, and what is cut is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.commandline import CommandLine
from tests.fleet import Fleet

from soundfleet_producer import GenerationRequest, Producer
from soundfleet_schemas import ErrorCode, InvalidRequest, JobResult, SongOptions

SCRIPTS = {
    "chinese": "温暖的低保真音乐，雨声。",
    "arabic": "موسيقى هادئة مع صوت المطر، ",
    "thai": "ดนตรีอบอุ่นกับเสียงฝนที่นุ่ม",
    "hindi": "बारिश के साथ धीमा संगीत, ",
    "emoji": "👩🏽\u200d🎤🎹\ufe0f🌧\ufe0f",
    "marks": "e\u0301o\u0308\u0323n\u0303 Z\u0335\u0321\u034c",
}
MAX_CHARS = 512


def prompt_of(script: str, characters: int = MAX_CHARS) -> str:
    """So many characters of a script, the last of which may be half a cluster."""
    return (SCRIPTS[script] * characters)[:characters]


def request_of(backend: str, prompt: str, **fields: Any) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, duration_sec=5, backend=backend, seed=1, use_cache=False, **fields)


def worker(fleet: Fleet, models: Path) -> Any:
    return fleet.start(
        SOUNDFLEET_ONLY="generate.musicgen,generate.ace_step", SOUNDFLEET_MODEL_DIR=str(models), SOUNDFLEET_SLOTS="8"
    )


def test_the_longest_prompt_of_every_script_makes_music(
    fleet: Fleet, soundfleet: CommandLine, music_models: Path
) -> None:
    """Whole up to the model, whatever it is in bytes; what the model does not read of it, the result says."""
    worker(fleet, music_models)
    asked = {(backend, script): prompt_of(script) for backend in ("musicgen", "ace_step") for script in SCRIPTS}
    ids = {of: fleet.submit(request_of(of[0], prompt)) for of, prompt in asked.items()}
    tracks = {}
    for (backend, script), prompt in asked.items():
        job = fleet.completed(ids[backend, script], 120)
        assert isinstance(job.result, JobResult)
        assert job.result.track is not None
        assert (len(prompt), len(prompt.encode()) > MAX_CHARS) == (MAX_CHARS, True)
        assert isinstance(job.request, GenerationRequest)
        assert job.request.prompt == job.result.track.prompt == prompt
        assert soundfleet("status", job.id).code == 0
        tracks[backend, script] = job.result
    cut = [warning for (backend, _), result in tracks.items() if backend == "ace_step" for warning in result.warnings]
    assert any("the prompt was cut" in warning for warning in cut), "hundreds of bytes are more than 256 tokens"


@pytest.mark.parametrize("backend", ["musicgen", "ace_step"])
@pytest.mark.parametrize("script", list(SCRIPTS))
def test_one_character_more_is_refused(producer: Producer, soundfleet: CommandLine, script: str, backend: str) -> None:
    """By the library and by the command line, with the number of characters."""
    prompt = prompt_of(script, MAX_CHARS + 1)
    with pytest.raises(InvalidRequest, match="the prompt has 513 characters, over 512") as caught:
        producer.submit(request_of(backend, prompt))
    assert caught.value.code is ErrorCode.INVALID_PROMPT
    said = soundfleet("generate", prompt, "--backend", backend)
    assert (said.code, said.err) == (2, f"error {caught.value.info}\n")


def test_lyrics_that_are_too_long_are_sung_as_far_as_they_are_read_and_it_is_said(
    fleet: Fleet, soundfleet: CommandLine, music_models: Path, tmp_path: Path
) -> None:
    """In the result, at the end of a watch and in the status; shorter ones come without a word."""
    worker(fleet, music_models)
    lyrics = tmp_path / "lyrics.txt"
    lyrics.write_text("[verse]\n" + "สายฝนพรำลงมา " * 700)
    words = ("generate", "warm lofi", "-b", "ace_step", "-d", "5", "--lyrics-file", str(lyrics), "--watch")
    said = soundfleet(*words)
    assert said.code == 0, said.err
    (job,) = fleet.producer.jobs()
    assert job.result is not None
    (warning,) = job.result.warnings
    assert warning.startswith("the lyrics were cut: they have ")
    assert warning.endswith(" tokens, the model reads 2048")
    assert f"! {warning}" in said.out
    assert f"! {warning}" in soundfleet("status", job.id).out
    assert f"! {warning}" in soundfleet("watch", job.id).out
    assert soundfleet("watch", job.id, "--json").documents[-1]["warnings"] == [warning]
    short = fleet.completed(fleet.submit(request_of("ace_step", "warm lofi", song=SongOptions(lyrics="[verse] rain"))))
    assert short.result is not None
    assert short.result.warnings == ()
