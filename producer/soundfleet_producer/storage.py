"""Object storage: any S3 through boto3, which is imported at the first call and not before.

Every key here is relative to ``settings.storage_prefix``; jobs and messages store such keys, and URLs are minted
when a result is read. Synchronous and safe to share between threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from soundfleet_schemas import ErrorCode, LocalFile, UploadSource, error

from .settings import Settings
from .storage_errors import MISSING, calling
from .uploads import Upload, opened, shown_size, too_large

PRESIGN_LIMIT_SEC = 7 * 86_400
"""The longest life that S3 gives to a presigned address."""
PART_BYTES = 16 * 1024 * 1024
CONNECT_TIMEOUT_SEC = 5
READ_TIMEOUT_SEC = 60
ATTEMPTS = 4
CONNECTIONS = 32


class Storage:
    """One bucket of an S3-compatible server.

    Raises STORAGE_UNAVAILABLE when the server is away (after boto3's own retries) and STORAGE_REFUSED when it
    refuses; both say what to do.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        cdn_base: str = "",
        presign_sec: int = PRESIGN_LIMIT_SEC,
        env: Mapping[str, str] | None = None,
        read_timeout_sec: float = READ_TIMEOUT_SEC,
    ) -> None:
        """``env`` holds the AWS_* variables; the process's own when None."""
        self.bucket = bucket
        self._prefix = prefix
        self._cdn_base = cdn_base.rstrip("/")
        self._presign_sec = min(presign_sec, PRESIGN_LIMIT_SEC)
        self._env = env
        self._read_timeout_sec = read_timeout_sec
        self._lock = threading.Lock()
        self._client: Any = None

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        env: Mapping[str, str] | None = None,
        read_timeout_sec: float = READ_TIMEOUT_SEC,
    ) -> Storage:
        """The bucket that the settings name, with the AWS_* variables of ``env`` (the process's own when None)."""
        return cls(
            settings.bucket,
            prefix=settings.storage_prefix,
            cdn_base=settings.cdn_base,
            presign_sec=settings.limits.presign_sec,
            env=env,
            read_timeout_sec=read_timeout_sec,
        )

    def ensure_bucket(self) -> None:
        """Create the bucket unless it is there."""
        from botocore.exceptions import ClientError

        with calling(f"find or create bucket {self.bucket}"):
            s3 = self._s3()
            try:
                s3.head_bucket(Bucket=self.bucket)
            except ClientError as exc:
                if exc.response["Error"]["Code"] not in MISSING:
                    raise
                region = s3.meta.region_name
                elsewhere = {} if region in (None, "us-east-1", "aws-global") else {"LocationConstraint": region}
                s3.create_bucket(Bucket=self.bucket, **({"CreateBucketConfiguration": elsewhere} if elsewhere else {}))

    def upload_source(
        self, source: Upload | LocalFile, max_bytes: int | None = None, filename: str | None = None
    ) -> UploadSource:
        """Store what a caller uploads under its content hash, unless the same content is there already.

        Raises what ``uploads.opened`` raises.
        """
        with opened(source, max_bytes, filename) as content:
            if self._size(content.key) != content.size_bytes:
                self._upload(content.key, content.file, "application/octet-stream")
                if not content.unchanged():
                    self.delete(content.key)  # what was stored is not what was hashed
                    changed = f"{content.name} changed while it was read"
                    raise error(ErrorCode.INVALID_SOURCE, changed, "Submit it again.")
        return UploadSource(
            key=content.key, sha256=content.sha256, size_bytes=content.size_bytes, filename=content.name
        )

    def put_file(self, key: str, path: Path | str, content_type: str) -> None:
        """Store a local file; large ones go in parts."""
        with Path(path).open("rb") as file:
            self._upload(key, file, content_type)

    def put_bytes(self, key: str, data: bytes, content_type: str) -> None:
        """Store a small object."""
        with calling(f"store {key}"):
            self._s3().put_object(Bucket=self.bucket, Key=self._full(key), Body=data, ContentType=content_type)

    def get_bytes(self, key: str) -> bytes:
        """Read a small object."""
        with calling(f"read {key}"):
            data: bytes = self._s3().get_object(Bucket=self.bucket, Key=self._full(key))["Body"].read()
            return data

    def fetch(self, bucket: str | None, key: str, path: Path | str, max_bytes: int) -> int:
        """Download the source of a job and return its size in bytes.

        ``bucket`` None is the fleet's own, with its prefix; a named bucket takes ``key`` as it stands. Raises
        FILE_TOO_LARGE before anything is downloaded, SOURCE_NOT_FOUND, SOURCE_FORBIDDEN.
        """
        where = {"Bucket": bucket or self.bucket, "Key": key if bucket else self._full(key)}
        name = f"s3://{where['Bucket']}/{where['Key']}"
        with calling(f"read {name}", source=name):
            head = self._s3().head_object(**where)
            size: int = head["ContentLength"]
            if size > max_bytes:
                raise too_large(name, shown_size(size), max_bytes)
            self._s3().download_file(**where, Filename=str(path), Config=_transfer())  # a temporary name, then renamed
        return size

    def download(self, key: str, path: Path | str) -> None:
        """Download an object; ``path`` appears only when it is whole."""
        with calling(f"read {key}"):
            self._s3().download_file(self.bucket, self._full(key), str(path), Config=_transfer())

    def exists(self, key: str) -> bool:
        return self._size(key) is not None

    def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        with calling(f"delete {key}"):
            self._s3().delete_object(Bucket=self.bucket, Key=self._full(key))

    def expires_after_days(self) -> int | None:
        """When lifecycle rules delete the outputs of jobs; None where there is no rule, or the server knows none."""
        from botocore.exceptions import ClientError

        with calling("read the lifecycle rules"):
            try:
                found = self._s3().get_bucket_lifecycle_configuration(Bucket=self.bucket)
            except ClientError:  # no rules, not implemented, or not ours to read: each server says it otherwise
                return None
        return shortest_expiry(found.get("Rules", []), self._full("jobs/"))

    def url(self, key: str) -> str:
        """An address of the object: under ``cdn_base`` where one is set, else presigned for at most 7 days."""
        full = self._full(key)
        if self._cdn_base:
            return f"{self._cdn_base}/{quote(full)}"
        with calling(f"sign {key}"):
            where = {"Bucket": self.bucket, "Key": full}
            signed: str = self._s3().generate_presigned_url("get_object", Params=where, ExpiresIn=self._presign_sec)
            return signed

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _full(self, key: str) -> str:
        return self._prefix + key

    def _size(self, key: str) -> int | None:
        from botocore.exceptions import ClientError

        with calling(f"look for {key}"):
            try:
                size: int = self._s3().head_object(Bucket=self.bucket, Key=self._full(key))["ContentLength"]
            except ClientError as exc:
                if exc.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise
            return size

    def _upload(self, key: str, file: IO[bytes], content_type: str) -> None:
        with calling(f"store {key}"):
            self._s3().upload_fileobj(  # which may close the file
                file, self.bucket, self._full(key), ExtraArgs={"ContentType": content_type}, Config=_transfer()
            )

    def _s3(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _connect(self._env, self._read_timeout_sec)
            return self._client


def shortest_expiry(rules: Iterable[Mapping[str, Any]], prefix: str) -> int | None:
    """Days after which the enabled rules delete objects whose keys begin with ``prefix``."""
    days = [
        rule["Expiration"]["Days"]
        for rule in rules
        if rule.get("Status") == "Enabled"
        and "Days" in rule.get("Expiration", {})
        and prefix.startswith(rule.get("Filter", {}).get("Prefix", rule.get("Prefix", "")))
    ]
    return min(days, default=None)


def _connect(given: Mapping[str, str] | None, read_timeout_sec: float) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    env = os.environ if given is None else given
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None
    session = boto3.Session(
        aws_access_key_id=env.get("AWS_ACCESS_KEY_ID") or None,
        aws_secret_access_key=env.get("AWS_SECRET_ACCESS_KEY") or None,
        aws_session_token=env.get("AWS_SESSION_TOKEN") or None,
        region_name=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or ("us-east-1" if endpoint else None),
        profile_name=None if given is None else given.get("AWS_PROFILE"),
        # A given environment stands for itself: the process's own profile must not mix in.
        botocore_session=None if given is None else Session(session_vars={"profile": (None, [], None, None)}),
    )
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint else "auto"},
        retries={"mode": "standard", "max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_TIMEOUT_SEC,
        read_timeout=read_timeout_sec,
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",  # what servers other than AWS understand
        response_checksum_validation="when_required",
        tcp_keepalive=True,
    )
    try:
        return session.client("s3", endpoint_url=endpoint, config=config)
    except BotoCoreError:
        raise
    except ValueError as exc:  # what botocore says of an address that is none
        raise error(ErrorCode.INVALID_SETTING, f"AWS_ENDPOINT_URL_S3: {exc}", "Give http:// or https:// HOST.") from exc


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)
