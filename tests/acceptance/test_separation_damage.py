"""Two hundred damaged files and more through one worker: each refused once and by its name, and nothing left of any."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.damage import SPECIALS, Special
from tests.fleet import Fleet
from tests.formats import SONGS
from tests.mutants import Mutant, mutants
from tests.waiting import wait_until
from tests.workers import WorkerProcess

from soundfleet_producer import SeparationRequest, Submitted
from soundfleet_schemas import CATALOG, Job, JobStatus, S3Source, SourceError, StemSeparationOptions, from_info

MINI = StemSeparationOptions(model="htdemucs_mini", shifts=0)
RATE = CATALOG["htdemucs_mini"].sample_rate
REFUSED = 200
FRAMES = 3 * 1_152
"""Of an mp3 without its header: delay, padding and the header itself are sound then."""


def _submit(fleet: Fleet, files: list[Special | Mutant]) -> list[str]:
    """Put the files into the bucket, past the client's own checks, and submit all at once."""
    storage, folder = fleet.stack.storage, f"{fleet.stack.namespace}/damaged"

    def put(number: int) -> SeparationRequest:
        storage.put_bytes(f"damaged/{number}", files[number].data, "application/octet-stream")
        return SeparationRequest(source=S3Source(bucket=storage.bucket, key=f"{folder}/{number}"), options=MINI)

    with ThreadPoolExecutor(4) as pool:
        requests = list(pool.map(put, range(len(files))))
    answers = fleet.producer.submit_many(requests)
    assert all(isinstance(answer, Submitted) for answer in answers)
    return [request.id for request in requests]


def _complaint(file: Special | Mutant, job: Job) -> str | None:
    """What is wrong with the end of a job; None where all is right."""
    if job.attempt != 1:
        return f"{job.attempt} attempts: {job.error}"
    if job.error is not None:
        info = job.error
        if info.retryable or not isinstance(from_info(info), SourceError) or not info.action:
            return f"the error is {info}"
        return None if isinstance(file, Mutant) or info.code is file.code else f"{info}, not {file.code}"
    lengths = {round(stem.duration * RATE) for stem in job.result.stems.values()}
    if len(lengths) != 1 or len(job.result.stems) != 4:
        return f"stems of {sorted(lengths)} samples"
    if isinstance(file, Special):
        return None if file.code is None else f"it plays, and should be {file.code}"
    longest = round((file.held + (0 if file.whole else FRAMES)) * RATE / file.rate)
    shortest = longest if file.whole else 1
    (length,) = lengths
    return None if shortest <= length <= longest else f"{length} samples, not {shortest} to {longest}"


def _children(worker: WorkerProcess) -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()}


@pytest.mark.timeout(300)
def test_damaged_files_are_refused_once_and_harm_nobody(fleet: Fleet, tmp_path: Path) -> None:
    """What plays in spite of its damage is separated in full; everything else is a typed error after one attempt."""
    files: list[Special | Mutant] = [special for make in SPECIALS for special in make(tmp_path)]
    files += mutants(tmp_path)
    worker = fleet.start(SOUNDFLEET_ONLY="separate.htdemucs_mini", SOUNDFLEET_SLOTS="8")
    engine = worker.engine_pid
    ids = _submit(fleet, files)
    jobs = [fleet.ended(job_id, timeout=240) for job_id in ids]
    wrong = {file.name: why for file, job in zip(files, jobs, strict=True) if (why := _complaint(file, job))}
    assert not wrong
    failed = {job.id for job in jobs if job.status is JobStatus.failed}
    assert len(failed) >= REFUSED, Counter(job.status for job in jobs)
    letters = fleet.producer.dead_letters(limit=2 * len(files))
    assert sorted(letter.job_id for letter in letters) == sorted(failed)
    assert {letter.reason for letter in letters} == {"permanent"}
    wait_until(lambda: not list(fleet.stack.scratch.glob("*/*")), "the scratch of the last run to be removed")
    assert (worker.process.poll(), worker.engine_pid, len(worker.events("engine ready"))) == (None, engine, 1)
    assert _children(worker) == {engine}
    song = SONGS["mp3 of 192 kbit a second"](tmp_path)
    fleet.completed(fleet.submit(SeparationRequest(source=str(song.path), options=MINI)))
