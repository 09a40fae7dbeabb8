"""Errors: one line, what to do, and the same again after any journey."""

from __future__ import annotations

import pickle

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soundfleet_schemas import ERRORS, ErrorCode, ErrorInfo, SoundfleetError, encode, error, from_info
from soundfleet_schemas.errors import show

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_is_of_the_class_that_its_code_names(code: ErrorCode) -> None:
    """And carries whether a retry can help."""
    raised = error(code, "something")
    assert type(raised) is ERRORS[code].raises
    assert raised.info.retryable is ERRORS[code].retryable


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_survives_pickling_and_the_wire(code: ErrorCode) -> None:
    """The same code, message and advice on the other side."""
    raised = error(code, "the thing broke", "Mend it.")
    assert pickle.loads(pickle.dumps(raised)).info == raised.info
    assert from_info(msgspec.json.decode(encode(raised.info), type=ErrorInfo)).info == raised.info


def test_a_message_is_one_line_of_sentences() -> None:
    """Line breaks become spaces, a missing full stop is added, the default advice follows."""
    raised = error(ErrorCode.INVALID_SEED, "seed is\n  -1")
    assert str(raised) == "INVALID_SEED: seed is -1. Give an integer from 0 to 2^64 - 1, or leave it out."


def test_an_invalid_request_is_a_value_error() -> None:
    """So that callers who know nothing of this package can catch it."""
    assert isinstance(error(ErrorCode.INVALID_PROMPT, "empty"), ValueError)
    assert not isinstance(error(ErrorCode.QUEUE_FULL, "full"), ValueError)


def test_an_error_from_the_future_is_not_mistaken() -> None:
    """A code that this version does not know is refused rather than guessed."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"code":"NEW_CODE","message":"m","action":"a"}', type=ErrorInfo)


@UNHURRIED
@given(st.one_of(st.text(), st.integers(), st.binary(), st.text(alphabet="\ud800\n\x00\u202e")))
def test_a_shown_value_is_short_printable_and_of_one_line(value: object) -> None:
    """Whatever a caller sent, the message stays a line that can be logged and encoded."""
    text = show(value)
    assert len(text) <= 80
    assert text.isprintable()
    text.encode()


def test_a_number_of_thousands_of_digits_is_shown_in_words() -> None:
    """Python refuses to print it, and an error about an error helps nobody."""
    assert show(10**5000) == "a number of thousands of digits"


def test_every_error_is_of_the_family() -> None:
    """One except clause is enough."""
    assert all(issubclass(spec.raises, SoundfleetError) for spec in ERRORS.values())
