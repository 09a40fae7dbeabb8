"""Ctrl-C while a job is followed: the job is not the command's, and goes on."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text
from tests.commandline import CommandLine
from tests.fleet import Fleet
from tests.waiting import wait_until

from soundfleet_producer.cli.console import ExitCode
from soundfleet_schemas import JobStatus

FIRST, SECOND = "0b7c1b1e-8f2b-4c6d-9a53-0e6f1d2c3b4a", "5f0c9a44-1b6e-4a0e-8d0e-3c1a2b9d8e7f"
CHAIN = (
    *("generate", "steps=10000 step_sec=0.05", "--backend", "slow", "--duration", "5", "--id", FIRST),
    *("--then", f"separate --model htdemucs_mini --id {SECOND}"),
)


class Terminal:
    """A command in a process of its own, on a terminal of 60 columns."""

    def __init__(self, fleet: Fleet, log: Path, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        environment = os.environ | fleet.stack.env | {"COLUMNS": "60", "TERM": "xterm"}
        command = [sys.executable, "-m", "soundfleet_producer.cli", *words]
        self._out = log.open("wb")
        self.process = subprocess.Popen(command, stdin=theirs, stdout=self._out, stderr=theirs, env=environment)
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.shown = ""

    def read(self) -> str:
        """Everything that it has shown so far."""
        try:
            while piece := os.read(self._ours, 1 << 16):
                self.shown += piece.decode(errors="replace")
        except OSError:  # nothing now, or it has ended
            pass
        return self.shown

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._out.close()
        os.close(self._ours)


def test_a_chain_that_is_not_followed_any_more_goes_on(fleet: Fleet, tmp_path: Path) -> None:
    """Each of its jobs is named with the commands that follow and cancel it; a bar is no wider than the terminal."""
    fleet.start()
    terminal = Terminal(fleet, tmp_path / "out", *CHAIN, "--watch")
    try:
        wait_until(lambda: "working, step" in terminal.read(), "the bar")
        terminal.process.send_signal(signal.SIGINT)
        wait_until(lambda: terminal.process.poll() is not None, "the command's end")
        shown = terminal.read()
    finally:
        terminal.close()
    assert terminal.process.returncode == 130
    for job_id in (FIRST, SECOND):
        assert f"job {job_id} goes on:" in shown
        assert f"soundfleet watch {job_id}" in shown
        assert f"soundfleet cancel {job_id}" in shown
    assert "Traceback" not in shown
    lines = [Text.from_ansi(line).plain for line in re.split(r"[\r\n]", shown)]
    bars = [line for line in lines if "━" in line]
    assert bars
    assert max(map(len, bars)) <= 60, bars
    assert fleet.producer.status(FIRST).status is JobStatus.processing
    for job_id in (FIRST, SECOND):
        fleet.producer.cancel(job_id)
        fleet.ended(job_id)


def test_only_what_has_not_ended_is_named(soundfleet: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of a chain is done; with --json nothing is said that a program would have to read past."""

    def follow_one(_fleet: object, job_id: str, **_: object) -> int:
        if job_id == SECOND:
            raise KeyboardInterrupt
        return ExitCode.OK

    monkeypatch.setattr("soundfleet_producer.cli.publish.follow", follow_one)
    words = ("generate", "warm lofi", "--backend", "sketch", "--id", FIRST, *CHAIN[-2:], "--watch")
    said = soundfleet(*words)
    assert said.code == 130
    assert f"job {SECOND} goes on:" in said.err
    assert f"job {FIRST} goes on" not in said.err
    again = soundfleet(*words, "--json")
    assert (again.code, again.err) == (130, "")


def test_a_watch_that_is_interrupted_says_how_to_go_on(
    soundfleet: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words as after a submission."""
    assert soundfleet("generate", "warm lofi", "--backend", "sketch", "--id", FIRST).code == 0

    def interrupt(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("soundfleet_producer.cli.follow.follow", interrupt)
    said = soundfleet("watch", FIRST)
    assert (said.code, said.out) == (130, "")
    assert f"soundfleet watch {FIRST}" in said.err
