"""Fixtures of the acceptance room: a client of the fleet, and real workers to serve it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.commandline import CommandLine
from tests.fleet import Fleet
from tests.slow import SPEC
from tests.stacks import Stack
from tests.workers import workers

from soundfleet_producer.client import Producer
from soundfleet_schemas import encode


@pytest.fixture
def fleet(stack: Stack) -> Iterator[Fleet]:
    """A client and a starter of workers in the test's corner of the stack; nothing pends when the test is over."""
    stack.redis.hset(stack.keys.backends, SPEC.backend, encode(SPEC))
    with Producer(stack.settings, stack.storage) as producer, workers(stack) as start:
        yield Fleet(stack, producer, start)


@pytest.fixture(scope="session")
def music_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models as an operator has it: a tiny checkpoint of each generation family."""
    from tests import ace_step_checkpoint, musicgen_checkpoint

    folder = tmp_path_factory.mktemp("models")
    musicgen_checkpoint.save_checkpoint(folder / "musicgen-small", rate=32_000)
    ace_step_checkpoint.build(folder / "acestep-v15-turbo")
    return folder


@pytest.fixture
def soundfleet(stack: Stack, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line in this process, with the stack in its environment."""
    for name, value in stack.env.items():
        monkeypatch.setenv(name, value)
    return CommandLine(capfd)
