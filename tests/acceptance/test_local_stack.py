"""The local stack is made of real parts, keeps its data, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from tests.stacks import Stack
from tests.waiting import wait_until

from soundfleet_producer.local import LocalStack, RedisServer, S3Server
from soundfleet_schemas import ErrorCode, SettingsError, SoundfleetError


def test_redis_keeps_what_it_acknowledged_when_it_is_killed(stack: Stack) -> None:
    """Every acknowledged write is on disk: kill -9 loses nothing."""
    stack.redis.set(f"{stack.keys.prefix}cache:x", "kept", ex=600)
    stack.local.kill_redis()
    assert not stack.local.redis.running
    stack.local.restart_redis()
    assert stack.redis.get(f"{stack.keys.prefix}cache:x") == b"kept"


def test_redis_never_evicts_and_syncs_every_write(stack: Stack) -> None:
    """A queue's server must not drop keys under memory pressure."""
    assert stack.redis.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert stack.redis.config_get("appendfsync")["appendfsync"] == "always"


def test_redis_asks_for_the_password(stack: Stack) -> None:
    """Another user of the machine gets nothing from the open port."""
    with (
        redis.Redis(port=stack.local.redis.port) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_secrets_stand_neither_in_the_process_list_nor_in_a_readable_file(stack: Stack) -> None:
    """The password and the keys reach the parts by a private file and by the environment."""
    local = stack.local
    for pid in (local.redis.pid, local.s3.pid):
        command = Path(f"/proc/{pid}/cmdline").read_text()
        assert local.redis.password not in command
        assert local.s3.secret_key not in command
    assert stat.S_IMODE((local.redis.directory / "redis.conf").stat().st_mode) == 0o600


def test_the_parts_are_gone_after_the_block(tmp_path: Path) -> None:
    """Leaving the block ends both processes."""
    with LocalStack(tmp_path) as local:
        pids = [local.redis.pid, local.s3.pid]
        assert all(pids)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_the_same_directory_serves_the_same_data_again(tmp_path: Path) -> None:
    """A stack that is stopped and started finds its jobs and objects."""
    with LocalStack(tmp_path) as local:
        local.storage.put_bytes("note", b"kept", "text/plain")
        with redis.Redis.from_url(local.redis.url) as client:
            client.set("note", "kept")
    with LocalStack(tmp_path) as local:
        assert local.storage.get_bytes("note") == b"kept"
        with redis.Redis.from_url(local.redis.url) as client:
            assert client.get("note") == b"kept"


def test_a_directory_serves_one_stack_at_a_time(tmp_path: Path) -> None:
    """Two servers that append to one file would destroy it."""
    with LocalStack(tmp_path), pytest.raises(SettingsError, match="another local stack"):
        LocalStack(tmp_path).__enter__()


def test_the_parts_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """kill -9 of the process that holds the stack leaves no server behind."""
    script = (
        "import sys, time\n"
        "from soundfleet_producer.local import LocalStack\n"
        "with LocalStack(sys.argv[1]) as local:\n"
        "    sys.stdout.write(f'{local.redis.pid} {local.s3.pid}\\n'); sys.stdout.flush()\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = parent.stdout.readline().split()
        os.kill(parent.pid, signal.SIGKILL)
    assert len(pids) == 2
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the parts to die with their parent")


def test_a_part_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """A taken port is named in the error, not hidden behind a timeout."""
    with RedisServer(tmp_path / "a") as first, pytest.raises(SoundfleetError) as caught:
        RedisServer(tmp_path / "b", port=first.port).start()
    assert caught.value.code is ErrorCode.QUEUE_UNAVAILABLE
    assert "in use" in str(caught.value)
    with S3Server(tmp_path / "c") as other, pytest.raises(SoundfleetError) as caught:
        S3Server(tmp_path / "d", port=other.port).start()
    assert caught.value.code is ErrorCode.STORAGE_UNAVAILABLE
    assert "in use" in str(caught.value)


def test_a_missing_part_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheels the error is one line that says what to install."""
    monkeypatch.setattr("os.get_exec_path", lambda: [str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SettingsError) as caught:
        RedisServer(tmp_path).start()
    assert caught.value.code is ErrorCode.MISSING_DEPENDENCY
    assert "pip install 'soundfleet[local]'" in str(caught.value)
