"""What acceptance tests do with a fleet: submit, wait, and read what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from soundfleet_producer.client import Producer
from soundfleet_producer.queue.records import read_events
from soundfleet_schemas import (
    EventType,
    GenerationRequest,
    Job,
    JobEvent,
    JobRequest,
    JobStatus,
    Lane,
    backend_of,
    kind_of,
)
from tests.stacks import Stack
from tests.waiting import wait_until
from tests.workers import WorkerProcess


@dataclass
class Fleet:
    """A client of a stack, and a way to start workers."""

    stack: Stack
    producer: Producer
    start: Callable[..., WorkerProcess]

    def submit(self, request: JobRequest) -> str:
        """Submit a request; return the job's id."""
        return self.producer.submit(request).id

    def slow(self, prompt: str, **fields: Any) -> str:
        """Submit a run of the slow backend; return the job's id."""
        return self.submit(GenerationRequest(prompt=prompt, duration_sec=1, backend="slow", seed=1, **fields))

    def ended(self, job_id: str, timeout: float = 60.0) -> Job:
        """Wait for a job's end."""

        def end() -> Job | None:
            job = self.producer.status(job_id)
            return job if job.finished else None

        job = wait_until(end, f"the end of job {job_id}", timeout)
        assert job is not None
        return job

    def completed(self, job_id: str, timeout: float = 60.0) -> Job:
        """Wait for a job to complete; fail with its error when it does not."""
        job = self.ended(job_id, timeout)
        assert job.status is JobStatus.completed, job.error
        return job

    def told(self, job_id: str) -> list[EventType]:
        """The job's events so far, without its progress."""
        return [event.type for event in self.events(job_id) if event.type is not EventType.progress]

    def events(self, job_id: str) -> list[JobEvent]:
        """The job's events so far."""
        return read_events(self.stack.redis.xrange(self.stack.keys.events(job_id)))

    def running(self, job_id: str, step: int = 1) -> Job:
        """Wait until a job has reported a step."""

        def runs() -> Job | None:
            for event in self.events(job_id):
                if event.progress is not None and event.progress.current_step >= step:
                    return self.producer.status(job_id)
            return None

        job = wait_until(runs, f"job {job_id} to reach step {step}")
        assert job is not None
        return job

    def pending_entries(self, request: JobRequest) -> int:
        """Entries of the request's lane that were delivered and not acknowledged."""
        lane = Lane(kind_of(request), backend_of(request), request.priority)
        return int(self.stack.redis.xpending(self.stack.keys.lane(lane), "workers")["pending"])

    def objects(self) -> list[str]:
        """Keys of everything in the stack's corner of the object storage."""
        s3 = self.stack.storage._s3()
        prefix = f"{self.stack.namespace}/"
        listing = s3.list_objects_v2(Bucket=self.stack.storage.bucket, Prefix=prefix)
        return [entry["Key"].removeprefix(prefix) for entry in listing.get("Contents", [])]
