"""A decoder runs in a process that is bound, and that ends whatever happens around it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests import media
from tests.waiting import wait_until

from soundfleet_schemas import DEFAULT_LIMITS, ErrorCode, Limits, SoundfleetError
from soundfleet_worker.audio import sandbox
from soundfleet_worker.audio.decode import decode
from soundfleet_worker.audio.decode_main import Box
from soundfleet_worker.audio.npy import partial
from soundfleet_worker.audio.sandbox import box_for, decode_in_process

MIB = 1 << 20
BOX = Box(memory_bytes=256 * MIB, cpu_sec=30, wall_sec=60.0, file_bytes=64 * MIB)
ENTER = "import os, signal, time; from soundfleet_worker.audio.decode_main import *; "


def children(pid: int) -> list[int]:
    """Living and dead (unwaited) children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A second of music in an mp3."""
    return media.make(tmp_path, "mp3", media.music(1.0))


@pytest.fixture
def hour(tmp_path: Path) -> Path:
    """Audio that takes long to decode: nearly ten minutes, to be resampled."""
    return media.long_file(tmp_path / "hour.wav", 590.0)


@pytest.fixture(autouse=True)
def no_child_is_left() -> object:
    """Neither a running one nor a zombie."""
    before = set(children(os.getpid()))
    yield
    assert not set(children(os.getpid())) - before


async def failure(path: Path, limits: Limits = DEFAULT_LIMITS, box: Box = BOX, rate: int = 44_100) -> SoundfleetError:
    """The error of a decoding, after which only the source is left."""
    with pytest.raises(SoundfleetError) as caught:
        await decode_in_process(path, path.with_name("decoded.npy"), rate, limits, box=box)
    assert os.listdir(path.parent) == [path.name]
    return caught.value


def behave(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the child run ``code`` instead of the decoder."""
    monkeypatch.setattr(sandbox, "_command", lambda *_: [sys.executable, "-c", code])


async def test_the_child_decodes_as_the_function_does(song: Path, tmp_path: Path) -> None:
    """The same facts and the same bytes."""
    info = await decode_in_process(song, tmp_path / "child.npy", 48_000, DEFAULT_LIMITS)
    assert info == decode(song, tmp_path / "here.npy", 48_000, DEFAULT_LIMITS)
    assert (tmp_path / "child.npy").read_bytes() == (tmp_path / "here.npy").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["child.npy", "here.npy", song.name]


def test_relative_paths_mean_the_callers_directory(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is imported from it."""
    (song.parent / "numpy.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.chdir(song.parent)
    info = asyncio.run(decode_in_process(Path(song.name), Path("decoded.npy"), 44_100, DEFAULT_LIMITS))
    assert info.samples == 44_100
    assert (song.parent / "decoded.npy").exists()


async def test_a_typed_error_crosses_the_border_unchanged(tmp_path: Path) -> None:
    """Code, message and advice."""
    path = media.text_file(tmp_path / "song.mp3")
    with pytest.raises(SoundfleetError) as here:
        decode(path, tmp_path / "here.npy", 44_100, DEFAULT_LIMITS)
    assert (await failure(path)).info == here.value.info


async def test_too_little_memory_is_a_decode_limit(song: Path) -> None:
    """The allocation fails inside the child, which says so: with less its stack may not grow, and it would crash."""
    error = await failure(song, box=msgspec.structs.replace(BOX, memory_bytes=MIB))
    assert error.code is ErrorCode.DECODE_LIMIT_EXCEEDED
    assert "memory" in str(error)


async def test_memory_does_not_grow_with_the_audio(tmp_path: Path) -> None:
    """Three minutes are 66 MB of samples, and decode in half of that."""
    path = media.long_file(tmp_path / "long.wav", 188.0)
    box = msgspec.structs.replace(BOX, memory_bytes=32 * MIB, file_bytes=80 * MIB)
    info = await decode_in_process(path, tmp_path / "decoded.npy", 44_100, DEFAULT_LIMITS, box=box)
    assert info.samples == 188 * 44_100


async def test_too_much_output_is_a_decode_limit(song: Path) -> None:
    """A file that unpacks to more than was allowed stops at the limit."""
    error = await failure(song, box=msgspec.structs.replace(BOX, file_bytes=100_000))
    assert error.code is ErrorCode.DECODE_LIMIT_EXCEEDED
    assert "writes" in str(error)


async def test_too_long_a_wait_is_a_decode_limit(hour: Path) -> None:
    """The wall clock is kept by the parent, which kills the child."""
    error = await failure(hour, box=msgspec.structs.replace(BOX, wall_sec=0.05), rate=48_000)
    assert error.code is ErrorCode.DECODE_LIMIT_EXCEEDED
    assert "0.05 s" in str(error)


async def test_too_much_processor_time_is_a_decode_limit(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that spins is ended by the kernel."""
    box = msgspec.structs.replace(BOX, cpu_sec=1)
    order = msgspec.json.encode(box).decode()
    behave(monkeypatch, ENTER + f"enter(msgspec.json.decode({order!r}, type=Box), {os.getpid()})\nwhile True: pass")
    error = await failure(song, box=box)
    assert error.code is ErrorCode.DECODE_LIMIT_EXCEEDED
    assert "processor time" in str(error)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SIGSEGV", ErrorCode.AUDIO_CORRUPT),
        ("SIGABRT", ErrorCode.AUDIO_CORRUPT),
        ("SIGKILL", ErrorCode.DECODE_LIMIT_EXCEEDED),
        ("SIGTERM", ErrorCode.WORKER_CRASHED),
    ],
)
async def test_a_signal_is_told_by_its_meaning(
    song: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: ErrorCode
) -> None:
    """A crash is the file's fault, a kill is the memory's, a termination is nobody's and may be tried again."""
    behave(monkeypatch, f"import os, signal; os.kill(os.getpid(), signal.{name})")
    error = await failure(song)
    assert error.code is code
    assert error.info.retryable is (code is ErrorCode.WORKER_CRASHED)


@pytest.mark.parametrize("code", ["raise RuntimeError('a mistake of ours')", "print('not JSON')", "pass"])
async def test_a_child_that_does_not_answer_properly_is_an_internal_error(
    song: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Its last words are in the message."""
    behave(monkeypatch, code)
    error = await failure(song)
    assert error.code is ErrorCode.INTERNAL_ERROR
    assert "raise" not in code or "a mistake of ours" in str(error)


async def test_cancelling_kills_the_child_and_leaves_no_file(hour: Path) -> None:
    """In the middle of decoding, when half of the output is written."""
    destination = hour.with_name("decoded.npy")
    task = asyncio.create_task(decode_in_process(hour, destination, 48_000, DEFAULT_LIMITS))
    while partial(destination).name not in os.listdir(hour.parent):
        assert not task.done()
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert os.listdir(hour.parent) == [hour.name]


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.01, 0.05])
async def test_cancelling_at_any_moment_leaves_nothing(song: Path, pause: float) -> None:
    """Before, while and after the child starts."""
    task = asyncio.create_task(decode_in_process(song, song.with_name("decoded.npy"), 44_100, DEFAULT_LIMITS))
    await asyncio.sleep(pause)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert os.listdir(song.parent) == [song.name]


async def test_many_files_decode_at_once(song: Path) -> None:
    """Each in its own process, none in another's way."""
    destinations = [song.with_name(f"{index}.npy") for index in range(4)]
    await asyncio.gather(*(decode_in_process(song, path, 44_100, DEFAULT_LIMITS) for path in destinations))
    assert len({path.read_bytes() for path in destinations}) == 1


async def test_the_child_inherits_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what Python needs to find its libraries."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("SOUNDFLEET_REDIS_URL", "redis://:secret@127.0.0.1")
    code = "import json, os, sys; json.dump(dict(os.environ), sys.stdout)"
    _, reply, _ = await sandbox._run([sys.executable, "-c", code], BOX)
    assert "secret" not in reply.decode()
    assert set(json.loads(reply)) <= {*sandbox._CHILD_ENVIRONMENT, *sandbox._ONE_THREAD, "LC_CTYPE"}


async def test_every_limit_is_set_in_the_child() -> None:
    """As the kernel tells it."""
    box = msgspec.json.encode(BOX).decode()
    code = ENTER + (
        f"box = msgspec.json.decode({box!r}, type=Box); enter(box, {os.getpid()}); bind_memory(box.memory_bytes); "
        "names = ('CORE', 'CPU', 'FSIZE', 'NOFILE', 'AS'); "
        "print([resource.getrlimit(getattr(resource, 'RLIMIT_' + n))[0] for n in names])"
    )
    _, reply, complaint = await sandbox._run([sys.executable, "-c", code], BOX)
    core, cpu, size, files, memory = json.loads(reply or complaint)
    assert (core, cpu, size, files) == (0, BOX.cpu_sec, BOX.file_bytes, BOX.open_files)
    assert BOX.memory_bytes < memory < BOX.memory_bytes + 1024 * MIB
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] != BOX.cpu_sec


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    """A worker that is killed leaves no decoder behind."""
    sleeper = ENTER + f"enter(msgspec.json.decode({msgspec.json.encode(BOX).decode()!r}, type=Box), os.getppid()); "
    sleeper += f"open({str(tmp_path / 'ready')!r}, 'w').close(); time.sleep(600)"
    program = (
        "import asyncio, sys; from soundfleet_worker.audio import sandbox; "
        "from soundfleet_worker.audio.decode_main import Box; "
        f"box = Box(memory_bytes=1, cpu_sec=60, wall_sec=600.0, file_bytes=1000); "
        f"asyncio.run(sandbox._run([sys.executable, '-c', {sleeper!r}], box))"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        try:
            wait_until((tmp_path / "ready").exists, "the child to be bound")
            (child,) = children(parent.pid)
        finally:
            parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the child to die")


def test_the_limits_follow_the_longest_audio() -> None:
    """Twice the audio may write twice the file."""
    short, long = (box_for(Limits(max_audio_sec=seconds), 44_100) for seconds in (60.0, 120.0))
    assert short.file_bytes >= 60 * 44_100 * 8
    assert long.file_bytes - short.file_bytes == 60 * 44_100 * 8
    assert short.wall_sec > short.cpu_sec
