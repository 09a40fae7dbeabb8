"""The command line as a person and as a script meet it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.commandline import CommandLine
from tests.hands import Hands
from tests.stacks import Stack
from tests.waiting import wait_until

from soundfleet_producer import GenerationRequest, Producer
from soundfleet_schemas import JobStatus, WorkerInfo, encode


def _submit(producer: Producer) -> str:
    return producer.submit(GenerationRequest(prompt="warm lofi", duration_sec=30)).id


def test_generate_prints_the_id_and_nothing_else_on_stdout(soundfleet: CommandLine, producer: Producer) -> None:
    """A script can take the line as it is; the hint is on stderr."""
    said = soundfleet("generate", "warm lofi", "--duration", "20", "--seed", "7")
    job = producer.status(said.out.strip())
    assert said.code == 0
    assert (job.request.prompt, job.request.seed) == ("warm lofi", 7)  # type: ignore[union-attr]
    assert "soundfleet watch" in said.err


def test_a_job_that_nobody_can_take_is_said_at_once(soundfleet: CommandLine, stack: Stack) -> None:
    """It is queued all the same: a worker may come; with a worker there is no warning."""
    assert "no worker that is alive serves sketch" in soundfleet("generate", "warm lofi").err
    now = datetime.now(UTC)
    info = WorkerInfo(
        id="w",
        host="h",
        pid=1,
        device="cpu",
        version="1",
        started_at=now,
        seen_at=now,
        capacity=1,
        backends=("sketch",),
    )
    stack.redis.set(stack.keys.worker("w"), encode(info), ex=60)
    stack.redis.zadd(stack.keys.workers, {"w": 1})
    assert "no worker" not in soundfleet("generate", "warm lofi").err


def test_the_same_id_is_the_same_job(soundfleet: CommandLine) -> None:
    """A script that does not know whether its command got through runs it again."""
    arguments = ("generate", "warm lofi", "--id", "11111111-1111-4111-8111-111111111111", "--json")
    assert soundfleet(*arguments).documents[0]["outcome"] == "created"
    assert soundfleet(*arguments).documents[0]["outcome"] == "exists"


def test_separate_uploads_the_file(soundfleet: CommandLine, producer: Producer, tmp_path: Path) -> None:
    """Options of the separation arrive as they were given."""
    song = tmp_path / "song.mp3"
    song.write_bytes(b"music")
    said = soundfleet("separate", str(song), "-m", "htdemucs_mini", "--stems", "vocals, drums", "--format", "flac")
    job = producer.status(said.out.strip())
    assert job.options is not None
    assert (job.options.stems, job.options.output_format) == (("vocals", "drums"), "flac")
    assert job.input_source is not None
    assert job.input_source.startswith("uploads/")


def test_watching_as_json_is_one_document_per_line(soundfleet: CommandLine, producer: Producer, hands: Hands) -> None:
    """Events in order, then the result with addresses; nothing else on stdout."""
    job_id = _submit(producer)
    token = hands.claim().token
    hands.report(token, 50)
    hands.complete(token, {"drums": b"boom"})
    said = soundfleet("watch", job_id, "--json")
    *events, result = said.documents
    assert [event["type"] for event in events] == ["submitted", "claimed", "progress", "completed"]
    assert result["cdn_urls"]
    assert said.err == ""


def test_watching_without_a_terminal_is_one_line_per_event(
    soundfleet: CommandLine, producer: Producer, hands: Hands
) -> None:
    """A log file shows what happened; the table of files goes to stdout."""
    job_id = _submit(producer)
    hands.complete(hands.claim().token, {"drums": b"boom"})
    said = soundfleet("watch", job_id)
    told = ["generate: waiting for a worker", "generate: claimed", "generate: done"]
    assert said.err.splitlines() == [*told, f"download them: soundfleet download {job_id} --out DIR"]
    assert "drums" in said.out


def test_out_follows_the_job_and_downloads_its_files(soundfleet: CommandLine, hands: Hands, tmp_path: Path) -> None:
    """One command from the prompt to the files."""

    def work() -> None:
        wait_until(lambda: hands.stack.redis.zcard(hands.stack.keys.jobs(JobStatus.pending)), "the job")
        hands.complete(hands.claim().token, {"drums": b"boom"})

    worker = threading.Thread(target=work)
    worker.start()
    said = soundfleet("generate", "warm lofi", "--out", str(tmp_path / "out"), "--timeout", "30")
    worker.join()
    assert said.code == 0
    assert (tmp_path / "out" / "drums.wav").read_bytes() == b"boom"
    assert str(tmp_path / "out" / "drums.wav") in said.out


def test_download_names_the_files_it_wrote(
    soundfleet: CommandLine, producer: Producer, hands: Hands, tmp_path: Path
) -> None:
    """As JSON: one path and size per line."""
    job_id = _submit(producer)
    hands.complete(hands.claim().token, {"drums": b"boom"})
    said = soundfleet("download", job_id, "--out", str(tmp_path), "--json")
    assert [Path(document["path"]).name for document in said.documents] == ["drums.wav", "manifest.json"]
    assert said.documents[0]["size"] == 4


def test_lists_are_one_document_per_line(soundfleet: CommandLine, producer: Producer, hands: Hands) -> None:
    """jobs, dead list, workers and backends; an empty list is no line."""
    _submit(producer)
    hands.fail(hands.claim().token)
    assert [job["status"] for job in soundfleet("jobs", "--json").documents] == ["failed"]
    assert soundfleet("jobs", "--status", "pending", "--json").out == ""
    assert [letter["reason"] for letter in soundfleet("dead", "list", "--json").documents] == ["permanent"]
    assert soundfleet("workers", "--json").out == ""
    assert "htdemucs" in [spec["backend"] for spec in soundfleet("backends", "--json").documents]


def test_top_shows_the_fleet_as_it_is(soundfleet: CommandLine, producer: Producer, hands: Hands) -> None:
    """Jobs by state, and what runs; as JSON one document per look."""
    running, _ = _submit(producer), _submit(producer)
    hands.claim()
    said = soundfleet("top", "--times", "2", "--every", "0.1", "--json")
    assert [(look["jobs"]["pending"], look["jobs"]["processing"]) for look in said.documents] == [(1, 1), (1, 1)]
    assert running in soundfleet("top", "--times", "1").out


def test_what_a_person_reads_names_the_same_things(soundfleet: CommandLine, producer: Producer, hands: Hands) -> None:
    """The tables hold the ids, the states and the reasons."""
    job_id = _submit(producer)
    hands.fail(hands.claim().token)
    assert job_id in soundfleet("jobs").out
    assert "failed" in soundfleet("status", job_id).out
    assert "AUDIO_CORRUPT" in soundfleet("dead", "list").out
    assert "what was known" in soundfleet("dead", "show", job_id).out
    assert "soundfleet worker" in soundfleet("workers").err
    assert "for scientific purposes" in soundfleet("backends").out


def test_what_others_submitted_cannot_steer_the_terminal(soundfleet: CommandLine, producer: Producer) -> None:
    """Control sequences and markup in a prompt are shown, not obeyed."""
    producer.submit(GenerationRequest(prompt="[red]a\x1b[2Jb\nc", duration_sec=30))
    listed = soundfleet("jobs").out
    assert "\x1b" not in listed
    assert "[red]a�[2Jb c" in listed


def test_dead_letters_are_redriven_and_purged(soundfleet: CommandLine, producer: Producer, hands: Hands) -> None:
    """The new job's id is printed; purging says how many."""
    job_id = _submit(producer)
    hands.fail(hands.claim().token)
    again = soundfleet("dead", "redrive", job_id).out.strip()
    assert producer.status(again).request.retried_from == job_id
    hands.fail(hands.claim().token)
    assert soundfleet("dead", "redrive", "--all", "--json").documents[0]["outcome"] == "created"
    hands.fail(hands.claim().token)
    assert soundfleet("dead", "purge", "--yes", "--json").documents == [{"purged": 1}]


def test_cancel_says_what_became_of_the_job(soundfleet: CommandLine, producer: Producer, hands: Hands) -> None:
    """A waiting job is cancelled, a running one is being cancelled."""
    running, waiting = _submit(producer), _submit(producer)
    hands.claim()
    assert "is being cancelled by worker hands" in soundfleet("cancel", running).out
    assert "is cancelled" in soundfleet("cancel", waiting).out


def test_doctor_finds_the_local_stack_healthy(soundfleet: CommandLine) -> None:
    """No worker, and a storage that knows no lifecycle rules, are warnings and not faults."""
    said = soundfleet("doctor", "--json")
    assert said.code == 0
    verdicts = {finding["what"]: finding["verdict"] for finding in said.documents}
    healthy = {"redis": "ok", "eviction": "ok", "durability": "ok", "storage": "ok"}
    assert verdicts == {**healthy, "retention": "warning", "workers": "warning"}


def test_a_wrong_setting_is_named(soundfleet: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command reads the same settings, and none ignores a misspelt one."""
    monkeypatch.setenv("SOUNDFLEET_BUKET", "x")
    said = soundfleet("jobs")
    assert said.code == 2
    assert "SOUNDFLEET_BUKET" in said.err


def test_a_worker_without_its_extra_says_what_to_install(
    soundfleet: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that only publishes has no torch."""

    def missing(_name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("importlib.import_module", missing)
    said = soundfleet("worker")
    assert said.code == 2
    assert "a worker needs torch" in said.err
    assert "pip install 'soundfleet[worker]'" in said.err


def test_every_command_has_help_and_offers_json(soundfleet: CommandLine) -> None:
    """Help is on stdout with exit code 0, and names the exit codes."""
    assert "Exit codes" in soundfleet("--help").out
    commands = ["generate", "separate", "watch", "status", "jobs", "cancel", "download", "workers", "backends"]
    commands += ["doctor", "demo", "top", "dead list", "dead show", "dead redrive", "dead purge", "local up"]
    for command in commands:
        said = soundfleet(*command.split(), "--help")
        assert said.code == 0
        assert "--json" in said.out, command


def test_ctrl_c_is_exit_code_130(stack: Stack, producer: Producer) -> None:
    """Interrupting a watch prints no traceback."""

    job_id = _submit(producer)
    with subprocess.Popen(
        [sys.executable, "-m", "soundfleet_producer.cli", "watch", job_id],
        env=os.environ | stack.env,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()  # it is watching
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert "Traceback" not in process.stderr.read()


def test_a_reader_that_goes_away_is_no_error(stack: Stack, producer: Producer) -> None:
    """``soundfleet jobs | head`` ends quietly."""

    producer.submit_many([GenerationRequest(prompt="x" * 500, duration_sec=30) for _ in range(300)])
    command = f"{sys.executable} -m soundfleet_producer.cli jobs --limit 300 --json | head -c 10"
    done = subprocess.run(
        command, shell=True, env=os.environ | stack.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""


def test_local_up_prints_an_environment_that_works(tmp_path: Path) -> None:
    """What it prints is what the other commands need; SIGTERM ends it and its parts."""
    with subprocess.Popen(
        [sys.executable, "-m", "soundfleet_producer.cli", "local", "up", "--dir", str(tmp_path), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        env = json.loads(process.stdout.readline())
        with Producer.from_env(env) as producer:
            job_id = _submit(producer)
            assert producer.status(job_id).status is JobStatus.pending
        process.terminate()
        assert process.wait(30) == 0
