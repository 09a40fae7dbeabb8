"""The only place that spells a Redis key.

One namespace is one hash slot (``{soundfleet}``), so that every script runs on a Cluster; more namespaces are more
slots. ``LIFETIMES`` says of each family of keys what it is and how long it lives; a test holds the server to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .enums import Priority
from .errors import ErrorCode, error, show
from .states import JobStatus

GROUP = "workers"
"""The consumer group of every lane."""
FETCH = "fetch"
WEB = "web"
FETCH_WEB = f"{FETCH}.{WEB}"
"""The service that downloads; jobs with a web address among their sources wait in its lanes first."""

LIFETIMES: dict[str, tuple[str, str]] = {
    "lane": ("stream", "permanent: an entry per waiting or running job, never trimmed"),
    "job": ("hash", "until finished, then the retention of its state"),
    "events": ("stream", "as its job; capped"),
    "leases": ("zset", "permanent: a member per running job"),
    "delayed": ("zset", "permanent: a member per job that waits for its retry"),
    "bell": ("list", "a minute after the last arrival; capped"),
    "expiries": ("zset", "permanent: a member per waiting job that has an expires_at"),
    "turns": ("string", "permanent: counts claims in which an aged job could have gone first"),
    "pace": ("hash", "ten minutes after the last completion: completions by the minute"),
    "waiters": ("set", "retention of failed jobs: jobs that wait for this one's output"),
    "dead": ("stream", "permanent: capped"),
    "jobs": ("zset", "permanent: a member per known job, swept by retention"),
    "lanes": ("set", "permanent: the lanes that were ever used"),
    "backends": ("hash", "permanent: the backends that workers have published"),
    "worker": ("string", "a few heartbeats after the last one"),
    "workers": ("zset", "permanent: worker ids by last heartbeat, swept"),
    "cache": ("string", "retention of completed jobs"),
    "client": ("hash", "an hour after the last request"),
}

_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BACKEND = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Lane:
    """Where jobs of one backend and priority wait; or, of ``fetch`` and ``web``, for their downloads."""

    kind: str
    backend: str
    priority: Priority

    def __post_init__(self) -> None:
        if not _BACKEND.fullmatch(self.backend):
            raise error(ErrorCode.INVALID_BACKEND, f"backend {show(self.backend)}: use 1 to 64 letters, digits, _ -")

    @property
    def service(self) -> str:
        """``<kind>.<backend>``, or ``fetch.web``: what a worker offers."""
        return f"{self.kind}.{self.backend}"

    def __str__(self) -> str:
        return f"{self.service}:{self.priority}"


class Keys:
    """The keys of one namespace."""

    __slots__ = ("namespace", "prefix")

    def __init__(self, namespace: str = "soundfleet") -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise error(ErrorCode.INVALID_SETTING, f"namespace {show(namespace)}: use 1 to 64 letters, digits, . _ -")
        self.namespace = namespace
        self.prefix = f"{{{namespace}}}:"

    def lane(self, lane: Lane) -> str:
        return f"{self.prefix}lane:{lane}"

    @property
    def lane_prefix(self) -> str:
        """What ``lane`` starts with; scripts find the lane of a job that they read."""
        return f"{self.prefix}lane:"

    def bell(self, service: str) -> str:
        """``service`` is ``Lane.service``; one bell rings for both priorities."""
        return f"{self.prefix}bell:{service}"

    def job(self, job_id: str) -> str:
        return f"{self.prefix}job:{job_id}"

    def events(self, job_id: str) -> str:
        return f"{self.prefix}events:{job_id}"

    def channel(self, job_id: str) -> str:
        """Pub/sub channel; not a key."""
        return f"{self.prefix}progress:{job_id}"

    def waiters(self, job_id: str) -> str:
        return f"{self.prefix}waiters:{job_id}"

    def control(self, worker_id: str) -> str:
        """Pub/sub channel on which a worker hears of cancellations (the payload is a job id); not a key."""
        return f"{self.prefix}control:{worker_id}"

    def jobs(self, status: JobStatus | None = None) -> str:
        return f"{self.prefix}jobs" if status is None else f"{self.prefix}jobs:{status}"

    def worker(self, worker_id: str) -> str:
        return f"{self.prefix}worker:{worker_id}"

    def cache(self, fingerprint: str) -> str:
        return f"{self.prefix}cache:{fingerprint}"

    def client(self, name: str) -> str:
        return f"{self.prefix}client:{name}"

    @property
    def leases(self) -> str:
        return f"{self.prefix}leases"

    @property
    def delayed(self) -> str:
        return f"{self.prefix}delayed"

    @property
    def expiries(self) -> str:
        return f"{self.prefix}expiries"

    @property
    def turns(self) -> str:
        return f"{self.prefix}turns"

    @property
    def pace(self) -> str:
        return f"{self.prefix}pace"

    @property
    def dead(self) -> str:
        return f"{self.prefix}dead"

    @property
    def lanes(self) -> str:
        return f"{self.prefix}lanes"

    @property
    def backends(self) -> str:
        return f"{self.prefix}backends"

    @property
    def workers(self) -> str:
        return f"{self.prefix}workers"
