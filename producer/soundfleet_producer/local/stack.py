"""Redis and S3 together, and the environment that points a process at them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from soundfleet_schemas import ErrorCode, error

from ..settings import ENV_PREFIX, Settings
from ..storage import Storage
from .redis_server import RedisServer
from .s3_server import S3Server

BUCKET = "soundfleet"
REGION = "us-east-1"


class LocalStack:
    """A private Redis and S3 under ``directory``, running inside the ``with`` block and gone after it.

    The data stays in the directory: the same directory serves the same jobs and objects again.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        redis_port: int | None = None,
        s3_port: int | None = None,
        redis_binary: Path | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.redis = RedisServer(self.directory / "redis", binary=redis_binary, port=redis_port)
        self.s3 = S3Server(self.directory / "s3", port=s3_port)
        self._parts = ExitStack()

    @property
    def env(self) -> dict[str, str]:
        """The variables that point a process at this stack."""
        return {
            "SOUNDFLEET_REDIS_URL": self.redis.url,
            "SOUNDFLEET_BUCKET": BUCKET,
            "SOUNDFLEET_DEFAULT_BACKEND": "sketch",
            "AWS_ENDPOINT_URL_S3": self.s3.url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_REGION": REGION,
        }

    @cached_property
    def settings(self) -> Settings:
        return Settings.load({name: value for name, value in self.env.items() if name.startswith(ENV_PREFIX)})

    @cached_property
    def storage(self) -> Storage:
        """The stack's bucket."""
        return Storage.from_settings(self.settings, self.env)

    def __enter__(self) -> LocalStack:
        try:
            self._start()
        except OSError as exc:
            message = f"a local stack cannot run in {self.directory}: {exc}"
            raise error(ErrorCode.INVALID_SETTING, message, "Choose another directory.") from exc
        return self

    def _start(self) -> None:
        with ExitStack() as parts:  # what has started is stopped when a later part does not start
            parts.enter_context(self._alone())
            parts.enter_context(self.redis)
            parts.enter_context(self.s3)
            self.storage.ensure_bucket()
            self._parts = parts.pop_all()

    def __exit__(self, *exc: object) -> None:
        self._parts.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the directory: two servers that append to one file would destroy it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise error(
                    ErrorCode.INVALID_SETTING,
                    f"another local stack runs in {self.directory}",
                    "Stop it, or choose another directory.",
                ) from None
            yield

    def restart_redis(self) -> None:
        """Stop and start Redis on the same port with the same data."""
        self.redis.restart()

    def kill_redis(self) -> None:
        """End Redis as a crash would; ``restart_redis`` brings it back."""
        self.redis.kill()
