"""Messages that were released once are read forever, and written the same."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from soundfleet_schemas import encode
from soundfleet_schemas.contract import MESSAGES

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.json"))


def message_of(path: Path) -> type[msgspec.Struct]:
    """The struct of a golden file: the first word of its name."""
    return MESSAGES[path.name.partition(".")[0]]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_message_is_decoded_and_encoded_to_the_same_bytes(path: Path) -> None:
    """A retyped field, a changed default or a new order of fields would break readers that are deployed."""
    raw = path.read_bytes().removesuffix(b"\n")
    assert encode(msgspec.json.decode(raw, type=message_of(path))) == raw


def test_every_message_has_golden_bytes() -> None:
    """A new message is not released without them."""
    assert {path.name.partition(".")[0] for path in GOLDEN} == set(MESSAGES)


@pytest.mark.parametrize("path", [p for p in GOLDEN if p.name.startswith("job_event")], ids=lambda path: path.stem)
def test_a_record_of_a_newer_writer_is_read(path: Path) -> None:
    """Records are tolerant: a field that this version does not know is passed over."""
    raw = path.read_bytes()
    newer = msgspec.json.encode(msgspec.json.decode(raw) | {"field_of_tomorrow": [1]})
    assert msgspec.json.decode(newer, type=message_of(path)) == msgspec.json.decode(raw, type=message_of(path))
