"""Limits that a fleet can work with."""

from __future__ import annotations

import math

import msgspec
import pytest

from soundfleet_schemas import DEFAULT_LIMITS, ErrorCode, Limits, SoundfleetError, check_limits
from soundfleet_schemas.limits import INPUT_FORMATS


def test_the_defaults_are_sound() -> None:
    """Three renewals fit into the time for which a lease is trusted."""
    assert check_limits(DEFAULT_LIMITS) is DEFAULT_LIMITS
    assert 3 * DEFAULT_LIMITS.renew_every_sec < DEFAULT_LIMITS.lease_trust * DEFAULT_LIMITS.lease_sec


@pytest.mark.parametrize("name", [name for name in Limits.__struct_fields__ if name != "input_formats"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_a_limit_is_a_positive_number(name: str, value: float) -> None:
    """The error names the setting."""
    with pytest.raises(SoundfleetError, match=f"limits.{name} ") as caught:
        check_limits(msgspec.structs.replace(DEFAULT_LIMITS, **{name: value}))
    assert caught.value.code is ErrorCode.INVALID_SETTING


def test_outputs_may_live_exactly_as_long_as_their_record() -> None:
    """Any shorter, and a completed job would name files that are gone."""
    check_limits(Limits(retain_completed_sec=86_400, retain_objects_sec=86_400))


def test_formats_are_words_with_commas() -> None:
    """By default all that a worker can read; spaces and capitals do not matter."""
    assert DEFAULT_LIMITS.accepted == INPUT_FORMATS
    limits = check_limits(Limits(input_formats=" FLAC, wav,"))
    assert limits.accepted == ("flac", "wav")
    assert limits.of_any_format().accepted == INPUT_FORMATS


@pytest.mark.parametrize("words", ["", " , ", "mp3,wma", "mp3 wav"])
def test_formats_that_no_worker_can_read_are_refused(words: str) -> None:
    """The error says which there are."""
    with pytest.raises(SoundfleetError, match=r"limits\.input_formats .* mp3, wav, m4a, flac, ogg, opus") as caught:
        check_limits(Limits(input_formats=words))
    assert caught.value.code is ErrorCode.INVALID_SETTING


def test_retries_may_follow_at_once() -> None:
    """A delay of zero is a choice; zero attempts are not."""
    check_limits(Limits(retry_base_sec=0.0, ageing_sec=0.0))
    with pytest.raises(SoundfleetError):
        check_limits(Limits(max_attempts=0))


@pytest.mark.parametrize(
    "limits",
    [
        Limits(lease_trust=1.0),
        Limits(lease_sec=5.0, renew_every_sec=7.5),
        Limits(lease_sec=30.0, renew_every_sec=27.0),
        Limits(presign_sec=8 * 86_400),
        Limits(retain_completed_sec=31 * 86_400, retain_objects_sec=30 * 86_400),
    ],
)
def test_limits_that_contradict_each_other_are_refused(limits: Limits) -> None:
    """A lease that runs out before it is renewed would make every job run twice."""
    with pytest.raises(SoundfleetError) as caught:
        check_limits(limits)
    assert caught.value.code is ErrorCode.INVALID_SETTING
