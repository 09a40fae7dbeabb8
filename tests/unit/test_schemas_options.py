"""Options of a separation: each within its range, and all together within what ends in time."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from soundfleet_schemas import (
    CATALOG,
    ErrorCode,
    Kind,
    Quality,
    SeparationRequest,
    SoundfleetError,
    StemSeparationOptions,
    backend_of,
    plan_separation,
    validate,
)

JOB = "0b7c1b1e-8f2b-4c6d-9a53-0e6f1d2c3b4a"


def separation(**options: Any) -> SeparationRequest:
    """A request for the stems of a job's track, with options."""
    return SeparationRequest(source=f"job:{JOB}", options=StemSeparationOptions(**options))


def refusal(request: SeparationRequest) -> str:
    """The code with which a request is refused, or '' when it is accepted."""
    try:
        validate(request)
    except SoundfleetError as exc:
        return exc.code.value
    return ""


SEPARATIONS: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"model": "htdemucs_mini"}, ""),
    ({"model": "demucs9"}, "INVALID_MODEL"),
    ({"model": "musicgen"}, "INVALID_MODEL"),
    ({"model": 3}, "INVALID_MODEL"),
    ({"model": ""}, "INVALID_MODEL"),
    ({"quality": "perfect"}, "INVALID_OPTION"),
    ({"output_format": "m4a"}, "INVALID_OPTION"),
    ({"normalize": 1}, "INVALID_OPTION"),
    ({"segment_duration": 0}, "INVALID_OPTION"),
    ({"segment_duration": -1.0}, "INVALID_OPTION"),
    ({"segment_duration": math.nan}, "INVALID_OPTION"),
    ({"segment_duration": 0.99}, "INVALID_OPTION"),
    ({"segment_duration": 1.0}, ""),
    ({"segment_duration": 7.8}, ""),
    ({"segment_duration": 7.9}, "INVALID_OPTION"),
    ({"model": "mdx_extra", "segment_duration": 44.0}, ""),
    ({"overlap_duration": 0}, ""),
    ({"overlap_duration": 7.0}, ""),
    ({"segment_duration": 1.0, "overlap_duration": 0.0, "shifts": 5}, ""),
    ({"segment_duration": 1.0, "overlap_duration": 0.0, "shifts": 6}, "INVALID_OPTION"),
    ({"segment_duration": 2.0, "overlap_duration": 1.0, "shifts": 5}, ""),
    ({"segment_duration": 2.0, "overlap_duration": 1.0, "shifts": 6}, "INVALID_OPTION"),
    ({"overlap_duration": 7.0, "shifts": 10}, "INVALID_OPTION"),
    ({"quality": "best", "shifts": 10}, ""),
    ({"overlap_duration": 7.1}, "INVALID_OPTION"),
    ({"segment_duration": 2.0, "overlap_duration": 1.9}, "INVALID_OPTION"),
    ({"overlap_duration": math.inf}, "INVALID_OPTION"),
    ({"shifts": 0}, ""),
    ({"shifts": 10}, ""),
    ({"shifts": 11}, "INVALID_OPTION"),
    ({"shifts": True}, "INVALID_OPTION"),
    ({"seed": 2**64 - 1}, ""),
    ({"seed": 2**64}, "INVALID_SEED"),
    ({"seed": 5, "shifts": 0}, "INVALID_OPTION"),
    ({"seed": 5, "quality": "fast"}, "INVALID_OPTION"),
    ({"seed": 5, "quality": "fast", "shifts": 1}, ""),
    ({"seed": 0, "shifts": 0}, ""),
    ({"stems": ("vocals", "bass")}, ""),
    ({"stems": ["vocals"]}, ""),
    ({"stems": ()}, "INVALID_OPTION"),
    ({"stems": ("vocals", "vocals")}, "INVALID_OPTION"),
    ({"stems": ("piano",)}, "INVALID_OPTION"),
    ({"model": "htdemucs_6s", "stems": ("piano",)}, ""),
    ({"stems": "vocals"}, "INVALID_OPTION"),
    ({"remove_vocals": True}, ""),
    ({"remove_vocals": True, "stems": ("bass",)}, "INVALID_OPTION"),
    ({"two_stems": "vocals"}, ""),
    ({"two_stems": "guitar"}, "INVALID_OPTION"),
    ({"two_stems": ""}, "INVALID_OPTION"),
    ({"two_stems": "no_vocals"}, "INVALID_OPTION"),
    ({"model": "htdemucs_6s", "two_stems": "guitar"}, ""),
    ({"two_stems": "vocals", "stems": ("vocals",)}, "INVALID_OPTION"),
    ({"two_stems": "vocals", "remove_vocals": True}, "INVALID_OPTION"),
    ({"keep_sample_rate": True}, ""),
    ({"keep_sample_rate": 1}, "INVALID_OPTION"),
    ({"output_format": "flac", "bit_depth": "24"}, ""),
    ({"output_format": "flac", "bit_depth": "float"}, "INVALID_OPTION"),
    ({"output_format": "mp3", "bit_depth": "16"}, "INVALID_OPTION"),
    ({"output_format": "mp3", "bitrate_kbps": 64}, ""),
    ({"output_format": "mp3", "bitrate_kbps": 129}, "INVALID_OPTION"),
    ({"output_format": "mp3", "bitrate_kbps": 321}, "INVALID_OPTION"),
    ({"output_format": "wav", "bitrate_kbps": 128}, "INVALID_OPTION"),
]


@pytest.mark.parametrize(("options", "code"), SEPARATIONS)
def test_options_of_a_separation_are_held_to_their_rules(options: dict[str, Any], code: str) -> None:
    """Against the model that the options come to."""
    assert refusal(separation(**options)) == code


def test_an_overlap_needs_a_segment_to_be_a_share_of() -> None:
    """A foreign model may have no segment of its own; then only the request can give one."""
    foreign = msgspec.structs.replace(CATALOG["htdemucs"], backend="kazoo", segment_sec=None)
    catalog = {**CATALOG, "kazoo": foreign}
    with pytest.raises(
        SoundfleetError, match="overlap_duration needs segment_duration: kazoo has no segment"
    ) as caught:
        validate(separation(model="kazoo", overlap_duration=1.0), catalog=catalog)
    assert caught.value.code is ErrorCode.INVALID_OPTION
    assert validate(separation(model="kazoo"), catalog=catalog) is foreign
    both = separation(model="kazoo", segment_duration=4.0, overlap_duration=1.0)
    validate(both, catalog=catalog)
    assert plan_separation(both.options, foreign).overlap == 0.25


@pytest.mark.parametrize("model", [spec.backend for spec in CATALOG.values() if spec.kind is Kind.separate])
@pytest.mark.parametrize("quality", list(Quality))
def test_every_preset_ends_in_time_on_every_model(model: str, quality: Quality) -> None:
    """With as many shifts as may be asked for."""
    assert refusal(separation(model=model, quality=quality)) == ""
    assert refusal(separation(model=model, quality=quality, shifts=10)) == ""


@pytest.mark.parametrize(
    ("options", "delivered", "computed", "rest"),
    [
        ({}, ("drums", "bass", "other", "vocals"), ("drums", "bass", "other", "vocals"), None),
        ({"stems": ("vocals", "drums")}, ("drums", "vocals"), ("drums", "vocals"), None),
        ({"stems": ("bass",)}, ("bass",), ("bass",), None),
        ({"remove_vocals": True}, ("instrumental",), ("vocals",), "instrumental"),
        ({"two_stems": "drums"}, ("drums", "no_drums"), ("drums",), "no_drums"),
    ],
)
def test_a_plan_says_what_is_delivered_and_what_it_is_made_of(
    options: dict[str, Any], delivered: tuple[str, ...], computed: tuple[str, ...], rest: str | None
) -> None:
    """Karaoke and the rest beside a stem are made of one stem, so that a bag of specialists runs one of them."""
    plan = plan_separation(StemSeparationOptions(**options), CATALOG["htdemucs"])
    assert (plan.stems, plan.computed, plan.rest) == (delivered, computed, rest)


@pytest.mark.parametrize(
    ("options", "references", "code"),
    [
        ({}, ("vocals", "bass"), ""),
        ({}, ("guitar",), "INVALID_OPTION"),
        ({"stems": ("bass",)}, ("vocals",), "INVALID_OPTION"),
        ({"remove_vocals": True}, ("vocals",), ""),
        ({"remove_vocals": True}, ("bass",), "INVALID_OPTION"),
        ({"two_stems": "drums"}, ("drums",), ""),
    ],
)
def test_a_reference_is_of_a_stem_that_is_computed(
    options: dict[str, Any], references: tuple[str, ...], code: str
) -> None:
    """Any other could not be compared with anything."""
    request = msgspec.structs.replace(separation(**options), references=dict.fromkeys(references, f"job:{JOB}"))
    assert refusal(request) == code


def test_presets_name_the_model() -> None:
    """Unless the options name one."""
    assert backend_of(separation(quality="best")) == "htdemucs_ft"
    assert backend_of(separation(quality="best", model="mdx")) == "mdx"
