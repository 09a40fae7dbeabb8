"""Whatever dies in mid-job, the job is committed once, and its events tell the story."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.fleet import Fleet
from tests.waiting import wait_until

from soundfleet_schemas import ErrorCode, EventType, GenerationRequest, JobStatus

SHORT_LEASE = {
    "SOUNDFLEET_LIMITS_LEASE_SEC": "2",
    "SOUNDFLEET_LIMITS_RENEW_EVERY_SEC": "0.4",
}


def outputs(job_id: str, attempt: int) -> list[str]:
    """The objects of a track's job."""
    return [f"jobs/{job_id}/{attempt}/{name}" for name in ("manifest.json", "track.peaks.json", "track.wav")]


def test_an_engine_that_is_killed_costs_an_attempt_and_the_job_completes(fleet: Fleet) -> None:
    """kill -9 of the engine: a new engine, a second attempt, one result."""
    worker = fleet.start()
    job_id = fleet.slow("steps=20 step_sec=0.05")
    fleet.running(job_id)
    os.kill(worker.engine_pid, signal.SIGKILL)
    job = fleet.completed(job_id)
    assert job.attempt == 2
    assert fleet.told(job_id) == [
        EventType.claimed,
        EventType.retry,
        EventType.requeued,
        EventType.claimed,
        EventType.completed,
    ]
    retry = next(event for event in fleet.events(job_id) if event.type is EventType.retry)
    assert retry.error.code is ErrorCode.WORKER_CRASHED
    assert "SIGKILL" in retry.error.message
    assert sorted(fleet.objects()) == outputs(job_id, 2)


def test_a_job_that_crashes_every_engine_ends_in_the_dead_letters_and_its_companion_completes(fleet: Fleet) -> None:
    """The one to blame is found by running the suspects alone; only it is charged."""
    fleet.start()
    good = fleet.slow("steps=30 step_sec=0.05")
    fleet.running(good)
    bad = fleet.slow("steps=4 at=2 step_sec=0.05 exit=3")
    job = fleet.ended(bad)
    assert (job.status, job.error.code, job.attempt) == (JobStatus.failed, ErrorCode.WORKER_CRASHED, 3)
    letter = fleet.producer.dead_letter(bad)
    assert letter.reason == "attempts"
    assert "the last words" in letter.detail
    assert fleet.completed(good).attempt == 1
    assert fleet.told(good) == [EventType.claimed, EventType.completed]


def test_a_broken_device_context_costs_the_engine_and_an_attempt(fleet: Fleet, tmp_path: Path) -> None:
    """A sticky CUDA error: the process is replaced, and the next attempt has a new context."""
    worker = fleet.start()
    job_id = fleet.slow(f"steps=4 at=2 step_sec=0.02 poison unless={tmp_path}/done")
    job = fleet.completed(job_id)
    assert job.attempt == 2
    retry = next(event for event in fleet.events(job_id) if event.type is EventType.retry)
    assert retry.error.code is ErrorCode.DEVICE_FAILED
    assert len(worker.events("engine ready")) == 2


def test_a_worker_that_is_killed_loses_its_job_to_another(fleet: Fleet) -> None:
    """kill -9 of the supervisor: its engine dies with it, the lease runs out, and another worker completes the job."""
    first = fleet.start(**SHORT_LEASE)
    job_id = fleet.slow("steps=40 step_sec=0.05")
    fleet.running(job_id)
    engine = first.engine_pid
    first.kill()
    wait_until(lambda: not Path(f"/proc/{engine}").exists(), "the orphaned engine to end", 10)
    assert any(fleet.stack.scratch.iterdir()), "a killed worker cannot clean up"
    second = fleet.start(**SHORT_LEASE)
    job = fleet.completed(job_id)
    assert (job.attempt, job.crashes) == (2, 1)
    assert fleet.told(job_id) == [EventType.claimed, EventType.lost, EventType.claimed, EventType.completed]
    swept = second.events("scratch of dead workers removed")
    assert len(swept) == 1
    assert second.stop() == 0
    assert not any(fleet.stack.scratch.iterdir())


def test_a_worker_that_was_stopped_past_its_lease_changes_nothing_when_it_goes_on(fleet: Fleet) -> None:
    """SIGSTOP and SIGCONT: another worker's result stands, and the stopped one settles and stores nothing."""
    stopped = fleet.start(**SHORT_LEASE)
    job_id = fleet.slow("steps=30 step_sec=0.05")
    fleet.running(job_id)
    stopped.send(signal.SIGSTOP)
    other = fleet.start(**SHORT_LEASE)
    job = fleet.completed(job_id)
    assert (job.worker, job.attempt) == (other.id, 2)
    stopped.send(signal.SIGCONT)
    wait_until(lambda: stopped.events("job lost to its lease"), "the stopped worker to give the job up")
    assert not stopped.events("job completed")
    after = fleet.producer.status(job_id)
    assert (after.result, after.worker, after.finished_at) == (job.result, job.worker, job.finished_at)
    assert sorted(fleet.objects()) == outputs(job_id, 2)
    assert fleet.told(job_id)[-1] is EventType.completed
    assert fleet.completed(fleet.slow("steps=1")).result.track is not None
    assert (stopped.stop(), other.stop()) == (0, 0)


def test_a_worker_outlives_a_crash_of_redis_in_mid_job(fleet: Fleet) -> None:
    """kill -9 of redis-server: the run goes on, and is settled when Redis is back, in the same attempt."""
    worker = fleet.start()
    job_id = fleet.slow("steps=40 step_sec=0.05")
    fleet.running(job_id)
    fleet.stack.local.kill_redis()
    wait_until(lambda: worker.events("redis away"), "the worker to miss Redis")
    fleet.stack.local.restart_redis()
    job = fleet.completed(job_id)
    assert job.attempt == 1
    assert fleet.told(job_id) == [EventType.claimed, EventType.completed]
    assert fleet.completed(fleet.slow("steps=2")).attempt == 1
    wait_until(lambda: worker.events("redis back"), "the worker to say that Redis is back")
    assert len(worker.events("redis away")) == 1, "it is said once"


def test_a_settlement_waits_for_redis_as_long_as_the_lease_holds(fleet: Fleet) -> None:
    """The inference ends while Redis is away: nothing is lost, nothing is done twice."""
    worker = fleet.start()
    job_id = fleet.slow("steps=10 step_sec=0.1")
    fleet.running(job_id)
    fleet.stack.local.kill_redis()
    wait_until(lambda: worker.events("job leaves the engine"), "the run to end")
    fleet.stack.local.restart_redis()
    assert fleet.completed(job_id).attempt == 1
    assert worker.stop() == 0


def test_a_job_that_redis_gives_out_again_replaces_the_run_in_hand(fleet: Fleet) -> None:
    """Redis came back without the claim: the same worker claims the job anew, and only the newer run is settled."""
    worker = fleet.start()
    job_id = fleet.slow("steps=40 step_sec=0.05")
    fleet.running(job_id)
    keys, lane = fleet.stack.keys, "generate.slow:normal"
    with fleet.stack.redis.pipeline(transaction=True) as forget:  # as if the last second had not been written
        entry = fleet.stack.redis.hget(keys.job(job_id), "entry")
        forget.xgroup_setid(keys.lane_prefix + lane, "workers", "0")
        forget.xack(keys.lane_prefix + lane, "workers", entry)
        forget.hset(keys.job(job_id), mapping={"state": "pending", "attempt": 0})
        forget.hdel(keys.job(job_id), "worker")
        forget.zrem(keys.leases, job_id)
        forget.zrem(keys.jobs(JobStatus.processing), job_id)
        forget.zadd(keys.jobs(JobStatus.pending), {job_id: 1})
        forget.lpush(keys.bell("generate.slow"), job_id)
        forget.execute()
    wait_until(lambda: fleet.told(job_id).count(EventType.claimed) == 2, "the second claim")
    job = fleet.completed(job_id)
    assert job.attempt == 1
    assert fleet.told(job_id) == [EventType.claimed, EventType.claimed, EventType.completed]
    assert len(worker.events("job completed")) == len(worker.events("job lost to its lease")) == 1
    assert sorted(fleet.objects()) == outputs(job_id, 1)


def test_a_worker_that_cannot_renew_gives_its_run_up_by_its_own_clock(fleet: Fleet) -> None:
    """No network, no work: the run is dropped while Redis is still away, and done again when it is back."""
    worker = fleet.start(**SHORT_LEASE)
    job_id = fleet.slow("steps=80 step_sec=0.05")
    fleet.running(job_id)
    fleet.stack.local.kill_redis()
    wait_until(lambda: worker.events("job lost to its lease"), "the worker to give the job up")
    fleet.stack.local.restart_redis()
    job = fleet.completed(job_id)
    assert (job.attempt, job.crashes) == (2, 1)
    assert fleet.told(job_id) == [EventType.claimed, EventType.lost, EventType.claimed, EventType.completed]


def test_a_flushed_server_is_shouted_about_and_consumption_goes_on(fleet: Fleet) -> None:
    """Groups vanish with the data; they are made again, loudly, and no job submitted afterwards waits."""
    worker = fleet.start(SOUNDFLEET_ONLY="generate.sketch,generate.slow")
    fleet.completed(fleet.slow("steps=1"))
    redis, keys = fleet.stack.redis, fleet.stack.keys
    lost = [key for key in redis.scan_iter(match=f"{keys.prefix}*") if b":backends" not in key]
    redis.delete(*lost)
    job_id = fleet.slow("steps=2")
    fleet.completed(job_id)
    assert [event["lost"] for event in worker.events("consumer group created")] == [False, True]


def test_many_jobs_survive_the_death_of_one_of_two_workers_and_each_is_committed_once(fleet: Fleet) -> None:
    """Sixty jobs, two workers, one kill -9 in the middle: sixty results, one commit each, nothing pending."""
    first, _ = fleet.start(**SHORT_LEASE), fleet.start(**SHORT_LEASE)
    requests = [
        GenerationRequest(prompt="steps=4 step_sec=0.02", duration_sec=1, backend="slow", seed=seed)
        for seed in range(60)
    ]
    ids = [submitted.id for submitted in fleet.producer.submit_many(requests)]
    completed = fleet.stack.keys.jobs(JobStatus.completed)
    wait_until(lambda: fleet.stack.redis.zcard(completed) >= 15, "a quarter of the jobs")
    first.kill()
    wait_until(lambda: fleet.stack.redis.zcard(completed) == 60, "all jobs", 60)
    jobs = [fleet.completed(job_id) for job_id in ids]
    assert all(fleet.told(job.id).count(EventType.completed) == 1 for job in jobs)
    assert all(f"{job.result.output_dir}manifest.json" in fleet.objects() for job in jobs[:3])
    assert sum(job.crashes for job in jobs) >= 1
    assert fleet.pending_entries(requests[0]) == 0
    assert fleet.stack.redis.zcard(fleet.stack.keys.leases) == 0
    third = fleet.start(**SHORT_LEASE)
    assert third.events("scratch of dead workers removed") or not any(fleet.stack.scratch.glob(f"*-{first.pid}-*"))
