"""``soundfleet demo``: from nothing to files, and to nothing running again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import av
import pytest
from tests.waiting import wait_until

from soundfleet_producer.local.scratch import temporary_directory

STEMS = {"drums", "bass", "other", "vocals"}


def _command(directory: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "soundfleet_producer.cli", "demo", "--out", str(directory / "out"), *arguments]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and a temporary directory of its own that must be empty afterwards."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("SOUNDFLEET_REDIS_URL", "redis://192.0.2.1:1/0")  # the demo keeps off the user's fleet
    monkeypatch.setenv("AWS_PROFILE", "production")
    return tmp_path


def test_the_demo_makes_a_track_and_its_stems(place: Path) -> None:
    """The files are there, their lengths agree, the stems add up, and nothing is left behind."""
    done = subprocess.run(_command(place, "--duration", "6"), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    out = place / "out"
    assert {path.stem for path in (out / "stems").glob("*.wav")} == STEMS
    for path in [out / "track" / "track.wav", *(out / "stems").glob("*.wav")]:
        with av.open(str(path)) as audio:
            assert audio.duration is not None
            assert audio.duration / av.time_base == pytest.approx(6.0, abs=0.01)
    manifest = json.loads((out / "stems" / "manifest.json").read_bytes())
    assert set(manifest["stems"]) == STEMS
    assert "add up to track.wav" in done.stdout
    assert str(out / "stems" / "drums.wav") in done.stdout
    assert list((place / "tmp").iterdir()) == []


def test_the_demo_splits_a_file_of_the_users(place: Path) -> None:
    """With --input nothing is generated; as JSON the result and the difference are documents."""
    song = place / "song.wav"
    with wave.open(str(song), "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(22_050)
        audio.writeframes(b"".join((i * 37 % 8000 - 4000).to_bytes(2, "little", signed=True) for i in range(22_050)))
    command = _command(place, "--input", str(song), "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    result, sums = (json.loads(line) for line in done.stdout.splitlines())
    assert set(result["stems"]) == STEMS
    assert sums["difference_db"] < -80
    assert not (place / "out" / "track").exists()


def test_an_input_that_is_not_there_is_one_line(place: Path) -> None:
    """Nothing is left running by an error either."""
    command = _command(place, "--input", str(place / "missing.mp3"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 4
    assert "SOURCE_NOT_FOUND" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((place / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_the_demo_leaves_nothing(place: Path, number: signal.Signals) -> None:
    """Ctrl-C in the middle of a job: processes and temporary files are gone (a guard looks for the processes)."""
    log = place / "log"
    with log.open("wb") as sink, subprocess.Popen(_command(place), stderr=sink, stdout=sink) as process:
        wait_until(lambda: b"claimed" in log.read_bytes() or process.poll() is not None, "a job to run", 60)
        os.kill(process.pid, number)
        assert process.wait(60) == 130
    assert b"Traceback" not in log.read_bytes()
    assert list((place / "tmp").iterdir()) == []


def test_a_worker_that_dies_ends_the_demo(place: Path) -> None:
    """Nobody waits for a worker that is gone: the error shows the end of its log."""
    log = place / "log"
    with log.open("wb") as sink, subprocess.Popen(_command(place), stderr=sink, stdout=sink) as process:
        os.kill(wait_until(lambda: _worker_of(process.pid), "the worker to start", 60), signal.SIGKILL)
        assert process.wait(60) == 1
    assert b"WORKER_CRASHED: the worker ended" in log.read_bytes()
    assert list((place / "tmp").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only its kernel ends the children of a killed process")
def test_what_a_killed_demo_leaves_is_cleared_by_the_next(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes end with it (a guard looks for them); the next start takes its files, and not those of others."""
    log = place / "log"
    with log.open("wb") as sink, subprocess.Popen(_command(place), stderr=sink, stdout=sink) as process:
        wait_until(lambda: b"claimed" in log.read_bytes() or process.poll() is not None, "a job to run", 60)
        process.kill()
    (left,) = (place / "tmp").iterdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))  # this process chose its own before

    def cleared() -> bool:
        with temporary_directory("soundfleet-demo-") as ours, temporary_directory("soundfleet-demo-"):
            assert ours.exists()
            return not left.exists()

    wait_until(cleared, "the dead demo's files to go", 30)  # a server that is still ending may write once more
    assert list((place / "tmp").iterdir()) == []


def _worker_of(parent: int) -> int | None:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in children:
        arguments = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        if "worker" in arguments:
            return int(child)
    return None
