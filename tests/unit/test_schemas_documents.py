"""The documents and the scripts use the words of the schemas."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from soundfleet_producer.queue.verbs import room
from soundfleet_schemas import ERRORS, ErrorCode, EventType, JobStatus, Keys
from soundfleet_schemas.keys import LIFETIMES

ROOT = Path(__file__).parents[2]
LUA = sorted((ROOT / "producer" / "soundfleet_producer" / "queue" / "lua").glob("*.lua"))
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SCRIPTS = "\n".join(path.read_text(encoding="utf-8") for path in LUA)


def test_the_page_of_errors_is_the_table_of_errors() -> None:
    """Code, retry and advice of each, and no other."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| (.*) \|$", text, re.MULTILINE)
    assert [code for code, _, _ in rows] == [code.value for code in ERRORS]
    for code, retry, action in rows:
        spec = ERRORS[ErrorCode(code)]
        assert (retry == "yes", action) == (spec.retryable, spec.action), code


@pytest.mark.parametrize("path", [path for path in LUA if path.stem != "prelude"], ids=lambda path: path.stem)
def test_every_verb_is_in_the_protocol(path: Path) -> None:
    """With a row of its own."""
    assert f"\n| `{path.stem}` |" in PROTOCOL


def test_every_family_of_keys_is_in_the_protocol() -> None:
    """Spelled as ``keys`` spells it; a client's record is written by no verb."""
    for family in set(LIFETIMES) - {"client"}:
        assert re.search(rf"`{{ns}}:{family}[:`]", PROTOCOL), family


def test_the_keys_of_a_script_stand_in_the_protocol_in_their_order() -> None:
    """A publisher in another language counts on it."""
    written = re.findall(r"`({ns}:[a-z]+:?)`", PROTOCOL.partition("## Verbs")[2].partition("| verb |")[0])
    assert [key.replace("{ns}", "{soundfleet}") for key in written] == room(Keys())


def test_scripts_tell_of_known_events() -> None:
    """What Lua emits, readers decode."""
    emitted = set(re.findall(r"emit\(id, '(\w+)'", SCRIPTS))
    assert emitted == {event.value for event in EventType} - {"submitted"}


def test_scripts_name_known_errors_and_states() -> None:
    """A word that the schemas lack would make a record unreadable."""
    assert set(re.findall(r"code = '(\w+)'", SCRIPTS)) <= {code.value for code in ErrorCode}
    for state in re.findall(r"state == '(\w+)'|state ~= '(\w+)'", SCRIPTS):
        assert (state[0] or state[1]) in JobStatus.__members__
