"""What a model made is no number: the error that every family of models ends such a run with."""

from __future__ import annotations

from soundfleet_schemas import ErrorCode, SoundfleetError, error


def no_numbers(message: str) -> SoundfleetError:
    """Return MODEL_INFERENCE_FAILED, with what the operator can do."""
    action = "Set SOUNDFLEET_PRECISION to fp32 on the worker, and check the model's files."
    return error(ErrorCode.MODEL_INFERENCE_FAILED, message, action)
