"""The fixtures that every room shares, and the guards that stand behind every test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from soundfleet_producer import Producer
from soundfleet_producer.local import LocalStack, RedisServer, redis_binaries
from tests import guards
from tests.hands import Hands
from tests.stacks import Stack
from tests.waiting import wait_until

LEAVE_TIME_SEC = 10.0
"""What a test's processes and threads get to be gone."""


def pytest_configure() -> None:
    """Keep the caller's own fleet and cloud out of the tests, and mark what they start."""
    for name in list(os.environ):
        if name.startswith(("SOUNDFLEET_", "AWS_")):
            del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: our children would be deaf, too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    guards.mark_children()


@pytest.fixture(scope="session")
def local_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The session's real Redis and S3; tests take ``stack``."""
    with LocalStack(tmp_path_factory.mktemp("stack")) as local:
        yield local


@pytest.fixture
def stack(local_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A corner of the local stack with a namespace, an object prefix and a scratch directory of its own."""
    corner = Stack(local_stack, tmp_path_factory.mktemp("corner"))
    yield corner
    if not local_stack.redis.running:
        local_stack.restart_redis()
    left = [str(path) for path in corner.scratch.rglob("*")]
    wrong = guards.overlong_keys(corner.redis, corner.keys)
    corner.close()
    assert not wrong, f"keys that outlive their promise: {wrong}"
    assert not left, f"scratch files that survived: {left}"


@pytest.fixture
def producer(stack: Stack) -> Iterator[Producer]:
    """A client of the test's corner."""
    with Producer(stack.settings, stack.storage) as client:
        yield client


@pytest.fixture
def hands(stack: Stack) -> Hands:
    """A worker that the test moves by hand."""
    return Hands(stack)


@pytest.fixture(scope="session")
def redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """One running server of each redis-server version on this machine, the newest first."""
    servers = [RedisServer(tmp_path_factory.mktemp("redis"), binary=binary) for binary in redis_binaries()]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(autouse=True)
def nothing_survives(request: pytest.FixtureRequest) -> Iterator[None]:
    """No process and no thread that a test started outlives it."""
    processes, threads = guards.marked_processes(), guards.living_threads()
    yield
    allowed = processes | _session_parts(request)
    deadline = time.monotonic() + LEAVE_TIME_SEC
    while (left := guards.marked_processes() - allowed) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"processes that survived: {guards.describe(left)}"
    wait_until(lambda: not guards.living_threads() - threads, "the test's threads to end", LEAVE_TIME_SEC)


def _session_parts(request: pytest.FixtureRequest) -> set[int]:
    """Processes of the session's stack, which a test may have restarted under a new id."""
    if "local_stack" not in request.fixturenames:
        return set()
    local: LocalStack = request.getfixturevalue("local_stack")
    return {pid for pid in (local.redis.pid, local.s3.pid) if pid is not None}
