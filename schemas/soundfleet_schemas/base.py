"""The two base structs: requests are strict at the door, records are tolerant to newer writers."""

from __future__ import annotations

import msgspec

SCHEMA_VERSION = 1
"""Version of every message of this package. A new field gets a default; nothing is ever retyped."""


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller sends: an unknown field is an error, because it would silently not act."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the fleet writes: an unknown field is a newer version's and is passed over, a default is left out."""


def encode(message: msgspec.Struct) -> bytes:
    """Encode one message as a JSON document (UTF-8, one line)."""
    return _ENCODER.encode(message)


_ENCODER = msgspec.json.Encoder()
