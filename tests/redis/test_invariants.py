"""Whatever the order of events, no job is lost and none is in two places."""

from __future__ import annotations

import random

import pytest

from soundfleet_producer.queue import verbs
from soundfleet_schemas import FINAL, JobStatus, Limits, Priority

from .conftest import FETCHED, Queue, cancelled

OPERATIONS = 120
EXPIRED = Limits(lease_sec=0.0, max_crashes=3)


@pytest.mark.parametrize("seed", range(8))
def test_no_job_is_lost_and_none_is_in_two_places(queue: Queue, seed: int) -> None:
    """A random walk over all verbs: workers that settle, fail, drain, stall, wake up late and die."""
    walk = Walk(queue, random.Random(seed))
    for _ in range(OPERATIONS):
        walk.step()
        walk.check()
    walk.run_dry()
    walk.check()
    assert all(walk.status(job) in FINAL for job in walk.jobs)
    assert queue.picture()["unacknowledged"] == 0
    assert queue.picture()["waiting"] == []


class Walk:
    """Random operations on a queue, and what must hold after each."""

    def __init__(self, queue: Queue, dice: random.Random) -> None:
        self.queue = queue
        self.dice = dice
        self.jobs: list[str] = []
        self.tokens: list[verbs.Token] = []
        self.committed: list[str] = []

    def step(self) -> None:
        self.dice.choice([
            self.submit, self.submit, self.claim, self.claim, self.complete, self.complete, self.fail, self.release,
            self.submit_web, self.claim_fetch, self.forward, self.forward, self.cancel, self.stop_cancelled, self.lose,
            self.promote, self.vanish,
        ])()  # fmt: skip

    def submit(self) -> None:
        self.jobs.append(self.queue.submit(priority=self.dice.choice(list(Priority)), use_cache=False))

    def claim(self) -> None:
        claims = self.queue.claim(self.dice.choice(["alice", "bob"]), self.dice.randint(1, 3))
        self.tokens += [claim.token for claim in claims]

    def submit_web(self) -> None:
        """A job that is to be fetched first; sometimes put into its backend's lane all the same."""
        request = self.queue.web_request(priority=self.dice.choice(list(Priority)), use_cache=False)
        exchange = verbs.submit(self.queue.keys, request, None, self.queue.limits)
        if self.dice.random() < 0.2:
            exchange.args[4] = str(self.queue.lanes[1])
        self.queue.do(exchange)
        self.jobs.append(request.id)

    def claim_fetch(self) -> None:
        claims = self.queue.claim(
            self.dice.choice(["alice", "dora"]), self.dice.randint(1, 3), lanes=self.queue.fetch_lanes
        )
        self.tokens += [claim.token for claim in claims]

    def forward(self) -> None:
        """To its backend with what was fetched, or back to be fetched."""
        if token := self.token():
            lane, fetched = self.dice.choice([(self.queue.lanes[1], FETCHED), (self.queue.fetch_lanes[1], {})])
            self.queue.do(verbs.forward(self.queue.keys, token, lane, fetched, self.queue.limits))

    def token(self) -> verbs.Token | None:
        """Any token that was ever given, the stale ones too."""
        return self.dice.choice(self.tokens) if self.tokens else None

    def complete(self) -> None:
        if (token := self.token()) and self.queue.complete(token) is verbs.Reply.ok:
            self.committed.append(token.job_id)

    def fail(self) -> None:
        if token := self.token():
            self.queue.fail(token, self.dice.choice([0.0, 0.0, None]))

    def release(self) -> None:
        if token := self.token():
            self.queue.do(verbs.release(self.queue.keys, token, self.queue.limits))

    def cancel(self) -> None:
        if self.jobs:
            self.queue.cancel(self.dice.choice(self.jobs))

    def stop_cancelled(self) -> None:
        if token := self.token():
            self.queue.do(verbs.settle_cancelled(self.queue.keys, token, cancelled(), self.queue.limits))

    def lose(self) -> None:
        """A worker stops renewing: one of its leases runs out."""
        if token := self.token():
            self.queue.do(verbs.renew(self.queue.keys, token.worker, [token], EXPIRED))
            self.queue.reap(EXPIRED)

    def promote(self) -> None:
        self.queue.do(verbs.promote(self.queue.keys))

    def vanish(self) -> None:
        """The consumer group is lost, as after a restore."""
        lane = self.queue.keys.lane(self.dice.choice([self.queue.lanes[1], self.queue.fetch_lanes[1]]))
        if self.dice.random() < 0.2 and self.queue.client.exists(lane):
            self.queue.client.xgroup_destroy(lane, "workers")

    def run_dry(self) -> None:
        """Honest workers finish what is left."""
        for _ in range(len(self.jobs) + 10):
            self.lose_all()
            self.promote()
            for claim in self.queue.claim("carol", 50, lanes=[*self.queue.lanes, *self.queue.fetch_lanes]):
                self.queue.complete(claim.token)

    def lose_all(self) -> None:
        for token in self.tokens:
            self.queue.do(verbs.renew(self.queue.keys, token.worker, [token], EXPIRED))
        self.queue.reap(EXPIRED)

    def status(self, job: str) -> JobStatus:
        return JobStatus(self.queue.job(job)["state"])

    def check(self) -> None:
        picture = self.queue.picture()
        assert len(self.committed) == len(set(self.committed)), "a job was committed twice"
        for job in self.jobs:
            status = self.status(job)
            indexed = [s for s in JobStatus if job in picture.get(s.value, [])]
            assert indexed == [status], f"{job} is {status} and indexed as {indexed}"
            places = self.places(job, picture)
            assert len(places) == (0 if status in FINAL else 1), f"{job} is {status} and in {places}"
        held = [job for job in self.jobs if "leases" in self.places(job, picture)]
        assert sorted(picture["leases"]) == sorted(held), "a lease of nobody: full queues are counted by leases"

    def places(self, job: str, picture: dict[str, list[str]]) -> list[str]:
        """Where a job that goes on is: in somebody's hands, in a lane, or waiting for its retry."""
        record = self.queue.job(job)
        places = [name for name in ("leases", "delayed") if job in picture[name]]
        entry = self.queue.client.hget(self.queue.keys.job(job), "entry")
        if entry is not None and "worker" not in record:
            places.append("lane")
        return places
