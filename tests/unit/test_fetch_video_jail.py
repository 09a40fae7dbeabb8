"""What yt-dlp's process can do once it is bound: tried by Python programs in its place."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.test_fetch_video import order

from soundfleet_schemas import encode

ENTER = """
import os, resource, sys
import msgspec
from soundfleet_worker.audio.decode_main import enter
from soundfleet_worker.fetch.video_jail import enter_jail
from soundfleet_worker.fetch.video_order import Order
order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
"""


def run(program: str, directory: Path, **environment: str) -> str:
    """What a program prints after ENTER."""
    done = subprocess.run(
        [sys.executable, "-c", ENTER + program],
        input=encode(order(directory)),
        stdout=subprocess.PIPE,
        env=os.environ | environment,
        timeout=60,
        check=True,
    )
    return done.stdout.decode().strip()


def test_a_library_that_connects_past_python_cannot_be_imported(tmp_path: Path) -> None:
    """curl's connections are no events of Python's, and yt-dlp takes it wherever it is installed."""
    (tmp_path / "curl_cffi.py").write_text("")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    program = """
import importlib
importlib.import_module("curl_cffi")
del sys.modules["curl_cffi"]
msgspec.structs.force_setattr(order.box, "memory_bytes", 256 << 20)
enter_jail(order)
try:
    importlib.import_module("curl_cffi")
except ImportError:
    print("refused")
"""
    assert run(program, tmp_path, PYTHONPATH=path) == "refused"


def test_a_container_with_lower_limits_keeps_them(tmp_path: Path) -> None:
    """A hard limit cannot be raised by who is not root; that is no reason to fail."""
    program = """
for what in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU):
    resource.setrlimit(what, (32, 32) if what != resource.RLIMIT_DATA else (1 << 30, 1 << 30))
for name, value in {"memory_bytes": 1 << 31, "open_files": 64, "file_bytes": 64, "cpu_sec": 64}.items():
    msgspec.structs.force_setattr(order.box, name, value)
enter(order.box, os.getppid())
enter_jail(order)
limits = (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU)
print([resource.getrlimit(what)[1] for what in limits])
"""
    assert run(program, tmp_path) == str([1 << 30, 32, 32, 32])
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 32


@pytest.mark.parametrize(
    "attempt",
    [
        "open(f'/proc/{os.getppid()}/environ', 'rb')",
        "open(f'/proc/self/../{os.getppid()}/mem', 'rb')",
        "os.rename(made, '/tmp/soundfleet-moved')",
        "os.rename('/etc/hostname', made)",
        "os.remove('/tmp/soundfleet-none')",
        "os.mkdir('/tmp/soundfleet-none')",
        "os.symlink('/etc', made + '.link')",
        "os.link('/etc/hostname', made + '.link')",
        "os.truncate('/tmp/soundfleet-none', 0)",
        "os.chmod('/tmp/soundfleet-none', 0)",
    ],
)
def test_nothing_of_this_machine_is_changed_and_no_process_read(attempt: str, tmp_path: Path) -> None:
    """The worker's environment holds the fleet's credentials."""
    program = f"""
import errno
msgspec.structs.force_setattr(order.box, "memory_bytes", 256 << 20)
made = order.directory + "/media"
open(made, "wb").close()
enter_jail(order)
open(f"/proc/{{os.getpid()}}/status").close()
os.rename(made, made + ".part")
os.rename(made + ".part", made)
try:
    {attempt}
except PermissionError as exc:
    print(exc.strerror)
"""
    said = run(program, tmp_path)
    assert said.startswith(("this file may not", "no program"))
