"""A worker's moves made by hand: tests of the client decide when a job is claimed, reports, and ends."""

from __future__ import annotations

import hashlib

from soundfleet_producer.queue import verbs
from soundfleet_producer.queue.exchange import perform
from soundfleet_producer.queue.verbs import Claim, Failure, Reply, Token
from soundfleet_schemas import (
    ErrorCode,
    JobResult,
    Kind,
    Lane,
    OutputFormat,
    Priority,
    ProgressUpdate,
    StemInfo,
    encode,
    error,
)
from tests.stacks import Stack

LANES = [
    Lane(kind, backend, priority)
    for kind, backend in ((Kind.generate, "sketch"), (Kind.separate, "htdemucs_mini"))
    for priority in Priority
]


class Hands:
    """One worker, moved by a test."""

    def __init__(self, stack: Stack, name: str = "hands") -> None:
        self.stack = stack
        self.name = name
        self.limits = stack.settings.limits

    def claim(self) -> Claim:
        """Take the next job; there must be one."""
        claims = perform(self.stack.redis, verbs.claim(self.stack.keys, self.name, 1, LANES, self.limits))
        assert len(claims.jobs) == 1, "no job waits"
        return claims.jobs[0]

    def report(self, token: Token, percent: int) -> Reply:
        """Report progress."""
        update = ProgressUpdate(track_id="t", percent=percent, current_step=percent, total_steps=100)
        return perform(self.stack.redis, verbs.report(self.stack.keys, token, update))

    def complete(self, token: Token, files: dict[str, bytes], fingerprint: str | None = None) -> JobResult:
        """Upload files and commit them as the job's stems."""
        result = self.deliver(token, files)
        settle = verbs.settle_completed(self.stack.keys, token, result, fingerprint, self.limits)
        assert perform(self.stack.redis, settle) is Reply.ok
        return result

    def deliver(self, token: Token, files: dict[str, bytes]) -> JobResult:
        """Upload files and their manifest, and return the result that names them."""
        output_dir = f"jobs/{token.job_id}/{token.attempt}/"
        stems = {}
        for name, data in files.items():
            key = f"{output_dir}{name}.wav"
            self.stack.storage.put_bytes(key, data, "audio/wav")
            stems[name] = StemInfo(
                filename=f"{name}.wav",
                path=key,
                size=len(data),
                duration=1.0,
                format=OutputFormat.wav,
                sample_rate=44_100,
                sha256=hashlib.sha256(data).hexdigest(),
            )
        result = JobResult(
            job_id=token.job_id,
            attempt=token.attempt,
            output_dir=output_dir,
            processing_time=1,
            model_used="htdemucs_mini",
            file_size=sum(map(len, files.values())),
            stems=stems,
        )
        self.stack.storage.put_bytes(f"{output_dir}manifest.json", encode(result), "application/json")
        return result

    def fail(
        self, token: Token, code: ErrorCode = ErrorCode.AUDIO_CORRUPT, retry_after_sec: float | None = None
    ) -> None:
        """Settle a failure: another attempt after a delay, or a dead letter."""
        failure = Failure(error(code, "the test failed it").info, retry_after_sec, "permanent", "what was known")
        settle = verbs.settle_failed(self.stack.keys, token, failure, self.limits)
        assert perform(self.stack.redis, settle) is Reply.ok
