"""The rules of the data models: each broken rule raises its own code, each border holds on both sides."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import msgspec
import pytest

from soundfleet_schemas import (
    CATALOG,
    GenerationRequest,
    JobRequest,
    Limits,
    SeparationRequest,
    SoundfleetError,
    StemSeparationOptions,
    decode_request,
    validate,
)

JOB = "0b7c1b1e-8f2b-4c6d-9a53-0e6f1d2c3b4a"
HUGE = 10**4000


def generation(**fields: Any) -> GenerationRequest:
    """A request of the sketch backend that is valid but for ``fields``."""
    return GenerationRequest(**{"prompt": "rain", "duration_sec": 30, "backend": "sketch", **fields})


def separation(**options: Any) -> SeparationRequest:
    """A request for the stems of a job's track, with options."""
    return SeparationRequest(source=f"job:{JOB}", options=StemSeparationOptions(**options))


def refusal(request: JobRequest, **kwargs: Any) -> str:
    """The code with which a request is refused, or '' when it is accepted; the message must be one line."""
    try:
        validate(request, **kwargs)
    except SoundfleetError as exc:
        text, code = str(exc), exc.code.value
    else:
        return ""
    assert "\n" not in text
    assert len(text) < 500
    return code


GENERATIONS = [
    ("prompt", "", "INVALID_PROMPT"),
    ("prompt", " \n\t", "INVALID_PROMPT"),
    ("prompt", "x", ""),
    ("prompt", "x" * 512, ""),
    ("prompt", "x" * 513, "INVALID_PROMPT"),
    ("prompt", "夜" * 512, ""),
    ("prompt", "🌧" * 512, ""),
    ("prompt", "ت" * 513, "INVALID_PROMPT"),
    ("prompt", "\ud800", "INVALID_MESSAGE"),
    ("prompt", "nul \x00 is a character", ""),
    ("prompt", "\x00", "INVALID_PROMPT"),
    ("prompt", "\x1b\x7f\x9f", "INVALID_PROMPT"),
    ("prompt", "\u200b\u2060\ufeff", "INVALID_PROMPT"),
    ("prompt", "\u3164\u2800\u00ad\u00a0", "INVALID_PROMPT"),
    ("prompt", "\u200b夜", ""),
    ("prompt", "🌧\ufe0f", ""),
    ("prompt", 5, "INVALID_PROMPT"),
    ("prompt", object(), "INVALID_MESSAGE"),
    ("duration_sec", 4, "INVALID_DURATION"),
    ("duration_sec", 5, ""),
    ("duration_sec", 240, ""),
    ("duration_sec", 241, "INVALID_DURATION"),
    ("duration_sec", -30, "INVALID_DURATION"),
    ("duration_sec", HUGE, "INVALID_DURATION"),
    ("duration_sec", 30.5, "INVALID_DURATION"),
    ("duration_sec", math.nan, "INVALID_DURATION"),
    ("duration_sec", True, "INVALID_DURATION"),
    ("duration_sec", "30", "INVALID_DURATION"),
    ("duration_sec", None, "INVALID_DURATION"),
    ("seed", 0, ""),
    ("seed", 2**64 - 1, ""),
    ("seed", 2**64, "INVALID_SEED"),
    ("seed", -1, "INVALID_SEED"),
    ("seed", False, "INVALID_SEED"),
    ("seed", 1.5, "INVALID_SEED"),
    ("backend", "nope", "INVALID_BACKEND"),
    ("backend", "htdemucs", "INVALID_BACKEND"),
    ("backend", None, "INVALID_BACKEND"),
    ("backend", "x" * 100_000, "INVALID_BACKEND"),
    ("inference_steps", 10, "INVALID_OPTION"),
    ("scheduler", "euler", "INVALID_OPTION"),
    ("guidance_scale", 7.0, "INVALID_OPTION"),
    ("output_format", "ogg", "INVALID_OPTION"),
    ("bit_depth", "float", ""),
    ("bit_depth", "32", "INVALID_OPTION"),
    ("bitrate_kbps", 320, "INVALID_OPTION"),
    ("id", "not-a-uuid", "INVALID_JOB_ID"),
    ("id", JOB.upper(), "INVALID_JOB_ID"),
    ("id", JOB + "\n", "INVALID_JOB_ID"),
    ("retried_from", "*", "INVALID_JOB_ID"),
    ("retried_from", JOB, ""),
    ("client", "web:203.0.113.9", ""),
    ("client", "", "INVALID_OPTION"),
    ("client", "a b", "INVALID_OPTION"),
    ("client", "x" * 129, "INVALID_OPTION"),
    ("priority", "urgent", "INVALID_OPTION"),
    ("priority", "high", ""),
    ("expires_at", datetime(2026, 1, 1), "INVALID_OPTION"),
    ("expires_at", datetime.fromisoformat("2026-01-01T00:00:00+05:30"), ""),
    ("expires_at", datetime.fromisoformat("0001-01-01T00:00:00+14:00"), ""),
    ("time_limit_sec", 0.5, "INVALID_OPTION"),
    ("time_limit_sec", 600.0, ""),
    ("time_limit_sec", 600.1, "INVALID_OPTION"),
    ("time_limit_sec", math.nan, "INVALID_OPTION"),
    ("time_limit_sec", math.inf, "INVALID_OPTION"),
    ("use_cache", 1, "INVALID_OPTION"),
    ("schema_version", 2, "INVALID_MESSAGE"),
    ("schema_version", 0, "INVALID_MESSAGE"),
]


@pytest.mark.parametrize(("field", "value", "code"), GENERATIONS)
def test_a_field_of_a_generation_is_held_to_its_rule(field: str, value: Any, code: str) -> None:
    """One field at a time; '' is accepted."""
    assert refusal(generation(**{field: value})) == code


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("duration_sec", 121, "INVALID_DURATION"),
        ("duration_sec", 120, ""),
        ("inference_steps", 50, "INVALID_OPTION"),
    ],
)
def test_musicgen_has_its_own_range(field: str, value: Any, code: str) -> None:
    """5 to 120 seconds; the fields of diffusion do not act."""
    assert refusal(generation(**{"backend": "musicgen", field: value})) == code


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("inference_steps", 0, "INVALID_INFERENCE_STEPS"),
        ("inference_steps", 1, ""),
        ("inference_steps", 200, ""),
        ("inference_steps", 201, "INVALID_INFERENCE_STEPS"),
        ("inference_steps", True, "INVALID_INFERENCE_STEPS"),
        ("inference_steps", HUGE, "INVALID_INFERENCE_STEPS"),
        ("guidance_scale", 0.99, "INVALID_GUIDANCE_SCALE"),
        ("guidance_scale", 1.0, ""),
        ("guidance_scale", 30, ""),
        ("guidance_scale", 30.01, "INVALID_GUIDANCE_SCALE"),
        ("guidance_scale", math.nan, "INVALID_GUIDANCE_SCALE"),
        ("guidance_scale", -math.inf, "INVALID_GUIDANCE_SCALE"),
        ("scheduler", "euler", ""),
        ("scheduler", "heun", ""),
        ("scheduler", "pingpong", ""),
        ("scheduler", "Euler", "INVALID_SCHEDULER"),
        ("scheduler", 1, "INVALID_SCHEDULER"),
    ],
)
def test_diffusion_fields_are_held_to_their_ranges(field: str, value: Any, code: str) -> None:
    """On ACE-Step, where they act."""
    assert refusal(generation(**{"backend": "ace_step", field: value})) == code


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (generation(scheduler="heun"), "scheduler does not act on backend sketch. Leave scheduler out."),
        (generation(bitrate_kbps=320), "bitrate_kbps does not act on wav; it is for mp3. Leave bitrate_kbps out."),
        (generation(duration_sec=999), "duration_sec is 999; sketch makes 5 to 240 seconds."),
        (generation(priority="urgent"), "priority: Invalid enum value 'urgent'; it takes high, normal."),
        (generation(backend="x"), "no backend that can generate is called 'x'; there are ace_step, ace_step_base, "),
        (separation(model="sketch"), "sketch can generate, not separate."),
        (separation(shifts=99), "shifts is 99; it takes 0 to 10."),
        (
            separation(output_format="mp3", bitrate_kbps=129),
            "bitrate_kbps is 129; it takes 64, 80, 96, 112, 128, 160, 192, 224, 256, 320.",
        ),
        (
            separation(seed=5, quality="fast"),
            "seed does not act without random shifts: quality fast makes none. Leave seed out.",
        ),
        (
            separation(segment_duration=1.0, overlap_duration=0.9, shifts=10),
            "shifts 10, segment_duration 1 and overlap 0.9 make htdemucs work 780 times through the audio; "
            "at most 40 times end in time. Use fewer shifts, longer segments or less overlap.",
        ),
        (generation(prompt="\u200b"), "the prompt holds nothing that can be seen."),
        (generation(scheduler="Euler"), "scheduler: Invalid enum value 'Euler'; it takes euler, heun, pingpong."),
        (separation(stems=("kazoo",)), "stems is 'kazoo'; it takes one or more of drums, bass, other, vocals"),
        (
            separation(remove_vocals=True, stems=("bass",)),
            "stems does not act together with remove_vocals, which delivers one file.",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_to_do(request_: JobRequest, said: str) -> None:
    """In one line that a person can act on."""
    with pytest.raises(SoundfleetError) as caught:
        validate(request_)
    assert said in str(caught.value)


def test_a_file_over_the_limit_is_refused_before_it_is_queued() -> None:
    """FILE_TOO_LARGE names both sizes; the limit is settable."""
    sha = "ab" * 32
    document = {"type": "file_upload", "key": f"uploads/{sha}.wav", "sha256": sha, "size_bytes": 1001}
    request = decode_request(msgspec.json.encode({"kind": "separate", "source": document}))
    assert refusal(request) == ""
    assert refusal(request, limits=Limits(max_file_bytes=1001)) == ""
    assert refusal(request, limits=Limits(max_file_bytes=1000)) == "FILE_TOO_LARGE"


def test_a_foreign_backend_is_accepted_from_the_catalogue_that_names_it() -> None:
    """Workers publish what they bring; the rules are the same."""
    foreign = msgspec.structs.replace(CATALOG["sketch"], backend="kazoo", max_duration_sec=10.0)
    catalog = {**CATALOG, "kazoo": foreign}
    assert validate(generation(backend="kazoo", duration_sec=10), catalog=catalog) is foreign
    assert refusal(generation(backend="kazoo", duration_sec=11), catalog=catalog) == "INVALID_DURATION"
