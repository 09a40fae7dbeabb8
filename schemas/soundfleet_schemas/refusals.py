"""The two sentences in which options are refused."""

from __future__ import annotations

from .errors import ErrorCode, SoundfleetError, error


def takes(field: str, value: str, allowed: str) -> SoundfleetError:
    """Refuse a value that is out of range."""
    return error(ErrorCode.INVALID_OPTION, f"{field} is {value}; it takes {allowed}")


def idle(field: str, where: str) -> SoundfleetError:
    """Refuse an option that cannot act."""
    return error(ErrorCode.INVALID_OPTION, f"{field} does not act {where}", f"Leave {field} out.")
