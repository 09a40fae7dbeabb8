"""Cancel, time limits and drains: a worker stops what it must, when it must, and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from tests.fleet import Fleet
from tests.waiting import wait_until

from soundfleet_schemas import ErrorCode, EventType, JobStatus


def test_a_running_job_is_cancelled_within_a_step(fleet: Fleet) -> None:
    """The worker hears it at once, and says at which step it stopped."""
    worker = fleet.start(SOUNDFLEET_LIMITS_LEASE_SEC="20", SOUNDFLEET_LIMITS_RENEW_EVERY_SEC="10")
    job_id = fleet.slow("steps=20000 step_sec=0.05")  # so slow that the next report is five seconds away
    fleet.running(job_id, step=0)
    assert fleet.producer.cancel(job_id) is JobStatus.processing
    job = fleet.ended(job_id, timeout=4)
    assert (job.status, job.error.code) == (JobStatus.cancelled, ErrorCode.GENERATION_CANCELLED)
    assert "of 20000" in job.error.message
    assert fleet.told(job_id) == [EventType.claimed, EventType.cancelling, EventType.cancelled]
    assert fleet.objects() == []
    assert fleet.completed(fleet.slow("steps=2")).attempt == 1
    assert len(worker.events("engine ready")) == 1, "a cancelled run does not cost the engine"


def test_a_run_over_its_time_limit_fails_and_is_not_tried_again(fleet: Fleet) -> None:
    """A run that still steps is dropped; the engine and the others on it live on."""
    worker = fleet.start()
    other = fleet.slow("steps=60 step_sec=0.05")
    job = fleet.ended(fleet.slow("steps=200 step_sec=0.05", time_limit_sec=1))
    assert (job.status, job.error.code, job.attempt) == (JobStatus.failed, ErrorCode.TIME_LIMIT_EXCEEDED, 1)
    assert fleet.producer.dead_letter(job.id).reason == "permanent"
    assert fleet.completed(other).attempt == 1
    assert len(worker.events("engine ready")) == 1


def test_a_run_that_hangs_costs_the_engine_and_nobody_else(fleet: Fleet) -> None:
    """The engine is killed, a new one serves the companion, and no attempt of it is charged."""
    worker = fleet.start()
    companion = fleet.slow("steps=20 step_sec=0.05")
    fleet.running(companion)
    hanging = fleet.slow("steps=10 at=2 step_sec=0.05 hang", time_limit_sec=1)
    job = fleet.ended(hanging)
    assert (job.status, job.error.code, job.attempt) == (JobStatus.failed, ErrorCode.TIME_LIMIT_EXCEEDED, 1)
    assert fleet.completed(companion).attempt == 1
    assert len(worker.events("engine ready")) == 2


def test_a_drain_finishes_what_fits_the_grace_and_hands_the_rest_back(fleet: Fleet) -> None:
    """SIGTERM: the short job completes, the long one waits in its lane again, and no attempt is charged."""
    worker = fleet.start(SOUNDFLEET_GRACE_SEC="3")
    long, short = fleet.slow("steps=200 step_sec=0.05"), fleet.slow("steps=12 step_sec=0.05")
    fleet.running(long)
    fleet.running(short)
    engine = worker.engine_pid
    assert worker.stop() == 0
    assert fleet.completed(short).attempt == 1
    job = fleet.producer.status(long)
    assert (job.status, job.worker, job.crashes) == (JobStatus.processing, None, 0)
    assert fleet.told(long) == [EventType.claimed, EventType.requeued]
    assert fleet.producer.workers() == []
    lane = fleet.stack.keys.lane_prefix + "generate.slow:normal"
    assert fleet.stack.redis.xinfo_consumers(lane, "workers") == [], "a drained worker takes its consumer with it"
    assert not (fleet.stack.scratch.exists() and any(fleet.stack.scratch.iterdir()))
    wait_until(lambda: not _alive(engine), "the engine to be gone")
    fleet.producer.cancel(long)


def test_a_released_job_has_all_its_attempts_left(fleet: Fleet, tmp_path: Path) -> None:
    """Drained once and failing ever after, a job is still tried three times."""
    first = fleet.start(SOUNDFLEET_GRACE_SEC="0")
    job_id = fleet.slow(f"steps=100 step_sec=0.05 raise when={tmp_path}/now")
    fleet.running(job_id)
    assert first.stop() == 0
    (tmp_path / "now").touch()
    fleet.start()
    job = fleet.ended(job_id)
    assert (job.status, job.error.code, job.attempt) == (JobStatus.failed, ErrorCode.MODEL_INFERENCE_FAILED, 4)
    assert fleet.producer.dead_letter(job_id).reason == "attempts"


def test_a_second_signal_hands_everything_back_at_once(fleet: Fleet) -> None:
    """The grace of a minute is not waited for."""
    worker = fleet.start(SOUNDFLEET_GRACE_SEC="60")
    job_id = fleet.slow("steps=200 step_sec=0.05")
    fleet.running(job_id)
    worker.send(signal.SIGINT)
    wait_until(lambda: worker.events("worker draining"), "the drain")
    assert worker.process.poll() is None
    worker.send(signal.SIGTERM)
    assert worker.process.wait(10) == 0
    assert fleet.told(job_id) == [EventType.claimed, EventType.requeued]
    handed_back = fleet.events(job_id)[-1]
    assert handed_back.error is not None
    assert handed_back.error.message == f"worker {handed_back.worker} shuts down before the job is done."
    fleet.producer.cancel(job_id)


def test_storage_that_hangs_does_not_keep_a_worker_from_ending(fleet: Fleet) -> None:
    """A thread sits in an upload that nobody answers: the job is handed back, the scratch removed, the process gone."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:  # connections are made, and never answered
        worker = fleet.start(
            SOUNDFLEET_GRACE_SEC="60", AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
        job_id = fleet.slow("steps=2")
        connection, _ = silent.accept()  # the upload has begun
        with connection:
            worker.send(signal.SIGTERM)
            wait_until(lambda: worker.events("worker draining"), "the drain")
            worker.send(signal.SIGTERM)
            assert worker.process.wait(15) == 0
    assert fleet.told(job_id) == [EventType.claimed, EventType.requeued]
    assert fleet.producer.workers() == []
    assert not (fleet.stack.scratch.exists() and any(fleet.stack.scratch.iterdir()))
    fleet.producer.cancel(job_id)


def test_an_idle_worker_publishes_itself_and_withdraws(fleet: Fleet) -> None:
    """What it serves, what it holds, and how its backends are."""
    worker = fleet.start(SOUNDFLEET_SLOTS="3", SOUNDFLEET_ONLY="generate.slow")
    wait_until(lambda: fleet.producer.workers() and fleet.producer.workers()[0].backends, "the worker's record")
    (info,) = fleet.producer.workers()
    assert (info.id, info.pid, info.capacity, info.backends) == (worker.id, worker.pid, 3, ("slow",))
    assert [(status.backend, status.status) for status in info.statuses] == [("slow", "ready")]
    assert worker.stop() == 0
    assert fleet.producer.workers() == []


def test_a_worker_with_nothing_to_serve_says_why_and_fails(fleet: Fleet) -> None:
    """An unknown service is a configuration error: one line, exit code 1, no restart loop."""
    worker = fleet.start(ready=False, SOUNDFLEET_ONLY="generate.nothing")
    assert worker.process.wait(30) == 1
    (event,) = worker.events("engine does not start")
    assert "generate.nothing" in event["error"]


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
