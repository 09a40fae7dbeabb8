"""``--then``: further commands on the output of a job, submitted together with it.

The words are read by the very command that they name, which hands its request over instead of publishing it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import typer

from soundfleet_schemas import JobRequest, SoundfleetError, error, sources_of
from soundfleet_schemas.errors import ErrorCode

COMMANDS = ("separate", "generate")
PARENT = "job:"
"""Stands for the job before, with ``#STEM`` behind it for one of its stems."""
INHERITED = ("priority", "client")
"""What a job has from the one before, unless its own words say it: a chain is one piece of work of one client."""
_PARENT = re.compile(rf"^(--?[a-z-]+=|[a-z0-9_-]+=)?{PARENT}(?=#|$)")
"""Where it stands: a word of its own, or behind the name of an option or of a reference."""


class Planned(NamedTuple):
    """Where a command that is only read puts its request."""

    requests: list[JobRequest]


def planned(context: Any) -> list[JobRequest] | None:
    """The list that takes the request of the command that is being read; None when it is to be published."""
    return context.obj.requests if isinstance(context.obj, Planned) else None


def children(texts: Sequence[str], parent: JobRequest, root: Any) -> list[JobRequest]:
    """Read each text as a command line on the output of the job ``parent``; ``root`` is the program's context.

    Raises INVALID_OPTION for a text that is no such command.
    """
    return [_read(text, parent, root) for text in texts]


def _read(text: str, parent: JobRequest, root: Any) -> JobRequest:
    words = _words(text, parent.id)
    command = root.command.commands[words[0]]
    plan = Planned([])
    context = command.make_context(words[0], words[1:], obj=plan)
    with context:
        command.invoke(context)
    (request,) = plan.requests
    if not any(f"{PARENT}{parent.id}" in str(source) for source in sources_of(request).values()):
        raise _refuse(text, f"does not use the job before; write {PARENT} where its output belongs")
    unsaid = [name for name in INHERITED if context.get_parameter_source(name).name == "DEFAULT"]
    return msgspec.structs.replace(request, **{name: getattr(parent, name) for name in unsaid})


def _words(text: str, parent_id: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise _refuse(text, f"cannot be read: {exc}") from None
    if not words or words[0] not in COMMANDS:
        raise _refuse(text, f"begins with {' or '.join(COMMANDS)}")
    if words[0] == "separate" and not any(word == PARENT or word.startswith(f"{PARENT}#") for word in words):
        words.insert(1, PARENT)
    return [_PARENT.sub(lambda found: f"{found[0]}{parent_id}", word) for word in words]


def _refuse(text: str, why: str) -> SoundfleetError:
    action = "Write it like: --then 'separate --model htdemucs'"
    return error(ErrorCode.INVALID_OPTION, f"--then {text!r} {why}", action)


def check_following(followed: bool) -> None:
    """Refuse to follow a chained job by itself: the chain is followed as a whole."""
    if followed:
        raise typer.BadParameter("--watch, --out, --timeout and --then belong to the first command of a chain")
