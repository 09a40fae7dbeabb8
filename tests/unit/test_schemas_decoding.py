"""Documents that are no requests, and requests that survive the wire."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soundfleet_schemas import GenerationRequest, SoundfleetError, decode_request, encode, validate
from soundfleet_schemas.validation import VISIBLE

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("raw", "code", "said"),
    [
        (b"", "INVALID_MESSAGE", "truncated"),
        (b"[]", "INVALID_MESSAGE", "Expected object"),
        (b'{"kind":"dance"}', "INVALID_MESSAGE", "kind: Invalid value 'dance'; it takes generate, separate."),
        (b'{"kind":"generate","duration_sec":5}', "INVALID_MESSAGE", "missing required field prompt"),
        (b'{"kind":"generate","prompt":"x","duration_sec":5,"tempo":90}', "INVALID_MESSAGE", "unknown field tempo"),
        (b'{"kind":"generate","prompt":"x","duration_sec":1e999}', "INVALID_DURATION", "out of range"),
        (b'{"kind":"generate","prompt":"x","duration_sec":true}', "INVALID_DURATION", "got bool"),
        (b'{"kind":"generate","prompt":"\\ud800","duration_sec":5}', "INVALID_MESSAGE", "surrogate"),
        (b'{"kind":"generate","prompt":"\xff","duration_sec":5}', "INVALID_MESSAGE", "utf-8"),
        (
            b'{"kind":"separate","source":{"type":"ftp"}}',
            "INVALID_SOURCE",
            "type: Invalid value 'ftp'; it takes file_upload, y",
        ),
        (b'{"kind":"separate","source":"x","priority":"urgent"}', "INVALID_OPTION", "it takes high, normal."),
        (
            b'{"kind":"separate","source":"x","options":{"quality":"x"}}',
            "INVALID_OPTION",
            "takes fast, balanced, best.",
        ),
        (b'{"kind":"separate","source":"x","options":{"bit_depth":"8"}}', "INVALID_OPTION", "it takes 16, 24, float."),
        (
            b'{"kind":"separate","source":"x","options":{"output_format":"x"}}',
            "INVALID_OPTION",
            "takes wav, mp3, flac.",
        ),
        (b'{"kind":"separate","source":"x","options":{"stems":[1]}}', "INVALID_OPTION", "options.stems"),
        (b'{"kind":"separate","source":"x","options":{"tempo":1}}', "INVALID_MESSAGE", "unknown field tempo"),
        (b'{"kind":"separate","source":"x","schema_version":2}', "INVALID_MESSAGE", "newer than 1"),
    ],
)
def test_a_document_that_is_no_request_is_refused_by_field(raw: bytes, code: str, said: str) -> None:
    """What decoding refuses has the code of its field too."""
    with pytest.raises(SoundfleetError) as caught:
        decode_request(raw)
    assert caught.value.code == code
    assert said in str(caught.value)


@UNHURRIED
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_document_makes_decoding_raise_anything_else(raw: bytes | str) -> None:
    """Every refusal is a typed error."""
    with contextlib.suppress(SoundfleetError):
        decode_request(raw)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=2)
)


@UNHURRIED
@given(field=st.sampled_from(GenerationRequest.__struct_fields__), value=VALUES)
def test_no_value_makes_validation_raise_anything_else(field: str, value: Any) -> None:
    """Whatever a caller puts into a field from Python."""
    try:
        validate(GenerationRequest(**{"prompt": "x", "duration_sec": 30, "backend": "sketch", field: value}))
    except SoundfleetError as exc:
        encode(exc.info)


@UNHURRIED
@given(prompt=st.text(min_size=1, max_size=512).filter(VISIBLE.search), seed=st.integers(0, 2**64 - 1))
def test_what_is_valid_survives_the_wire_unchanged(prompt: str, seed: int) -> None:
    """Any script, any seed of 64 bits."""
    request = GenerationRequest(prompt=prompt, duration_sec=30, backend="sketch", seed=seed)
    validate(request)
    assert decode_request(encode(request)) == request
