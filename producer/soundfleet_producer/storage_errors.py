"""What S3 refuses or fails to do, in the fleet's own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from soundfleet_schemas import ErrorCode, SoundfleetError, error

MISSING = frozenset({"404", "NotFound", "NoSuchKey", "NoSuchBucket"})
FORBIDDEN = frozenset({"401", "403", "AccessDenied", "Forbidden"})
THROTTLED = frozenset({"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "Throttling", "ThrottlingException"})


@contextmanager
def calling(what: str, *, source: str = "") -> Iterator[None]:
    """Translate what a call to S3 raises; ``source`` names a foreign object, whose absence is the request's fault."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as exc:
        raise _refused(exc.response, what, source) from exc
    except BotoCoreError as exc:
        raise _failed(exc, what) from exc
    except Boto3Error as exc:  # the last of the transfer's own retries
        raise error(ErrorCode.STORAGE_UNAVAILABLE, f"storage could not {what}: {exc}") from exc


def _refused(response: Any, what: str, source: str) -> SoundfleetError:
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = str(response.get("Error", {}).get("Message") or code)
    if code in THROTTLED or (isinstance(status, int) and status >= 500):
        return error(ErrorCode.STORAGE_UNAVAILABLE, f"storage could not {what}: {said}", "Try again later.")
    if source and code in MISSING:
        return error(ErrorCode.SOURCE_NOT_FOUND, f"there is no {source}")
    if source and code in FORBIDDEN:
        return error(ErrorCode.SOURCE_FORBIDDEN, f"the fleet's credentials may not read {source}")
    if code == "NoSuchBucket":
        return error(
            ErrorCode.STORAGE_REFUSED,
            f"storage could not {what}: there is no such bucket",
            "Create it, or correct SOUNDFLEET_BUCKET.",
        )
    if code in MISSING:
        return error(
            ErrorCode.STORAGE_REFUSED,
            f"storage could not {what}: it is not there",
            "Submit the job again; outputs are deleted after their retention.",
        )
    return error(ErrorCode.STORAGE_REFUSED, f"storage could not {what}: {said}")


def _failed(exc: Exception, what: str) -> SoundfleetError:
    from botocore.exceptions import (
        ConnectionError as NoConnection,
    )
    from botocore.exceptions import (
        HTTPClientError,
        IncompleteReadError,
        NoCredentialsError,
        PartialCredentialsError,
        ResponseStreamingError,
    )

    if isinstance(exc, HTTPClientError | NoConnection | IncompleteReadError | ResponseStreamingError):
        return error(ErrorCode.STORAGE_UNAVAILABLE, f"storage could not {what}: {exc}")
    if isinstance(exc, NoCredentialsError | PartialCredentialsError):
        return error(
            ErrorCode.STORAGE_REFUSED,
            f"storage could not {what}: {exc}",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        )
    return error(ErrorCode.STORAGE_REFUSED, f"storage could not {what}: {exc}")
