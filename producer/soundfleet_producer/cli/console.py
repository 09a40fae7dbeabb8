"""What every command shares: results on stdout, everything else on stderr, exit codes that scripts can use."""

from __future__ import annotations

import signal
import sys
from enum import IntEnum
from types import FrameType

import msgspec
from rich.console import Console, RenderableType

from soundfleet_schemas import (
    ErrorCode,
    ErrorInfo,
    InvalidRequest,
    JobStatus,
    QueueError,
    SettingsError,
    SoundfleetError,
    SourceError,
    StorageError,
    encode,
)

UNWRAPPED = 10_000
"""Columns of an output that nobody looks at: its lines are as long as they need to be."""
WIDE = 100
"""Columns of a terminal that has room for all that is known; a narrower one shows what cannot be done without."""
out = Console(highlight=False, width=None if sys.stdout.isatty() else UNWRAPPED)
err = Console(stderr=True, highlight=False)


class ExitCode(IntEnum):
    """What a script learns from a command."""

    OK = 0
    JOB_FAILED = 1
    USAGE = 2
    """The request, the command line or a setting must change."""
    UNAVAILABLE = 3
    """Redis or the storage is away or refuses, or the queue is full: the same command may succeed later."""
    NOT_FOUND = 4
    TIMEOUT = 5
    CANCELLED = 6
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit codes: 0 ok · 1 the job failed · 2 usage, invalid request or setting · 3 queue or storage unavailable · "
    "4 not found · 5 timeout · 6 the job was cancelled · 130 interrupted"
)

OF_JOB = {
    JobStatus.completed: ExitCode.OK,
    JobStatus.failed: ExitCode.JOB_FAILED,
    JobStatus.cancelled: ExitCode.CANCELLED,
}


def exit_code_of(exc: SoundfleetError) -> ExitCode:
    """The exit code of a command that an error ended."""
    if exc.code in (ErrorCode.JOB_NOT_FOUND, ErrorCode.SOURCE_NOT_FOUND):
        return ExitCode.NOT_FOUND
    if exc.code is ErrorCode.RESULT_TIMEOUT:
        return ExitCode.TIMEOUT
    if exc.code in (ErrorCode.GENERATION_CANCELLED, ErrorCode.SEPARATION_CANCELLED):
        return ExitCode.CANCELLED
    if isinstance(exc, StorageError) or exc.code in (ErrorCode.QUEUE_UNAVAILABLE, ErrorCode.QUEUE_FULL):
        return ExitCode.UNAVAILABLE
    if isinstance(exc, InvalidRequest | SettingsError | SourceError | QueueError):
        return ExitCode.USAGE
    return ExitCode.JOB_FAILED


def say(what: RenderableType) -> None:
    """Print a table or a sentence on stdout."""
    out.print(what, soft_wrap=isinstance(what, str), markup=False)


def emit(document: msgspec.Struct | dict[str, object]) -> None:
    """Write one JSON document as one line of stdout."""
    line = encode(document) if isinstance(document, msgspec.Struct) else msgspec.json.encode(document)
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def complain(info: ErrorInfo, as_json: bool = False) -> None:
    """Write an error as one line of stderr."""
    said = info.message.encode(errors="replace").decode()  # the name of a file that it quotes may be no text
    info = msgspec.structs.replace(info, message=said)
    if as_json:
        sys.stderr.write(encode(info).decode() + "\n")
    else:
        err.print(f"[bold red]error[/] {_plain(str(info))}", soft_wrap=True)


def complain_of_usage(info: ErrorInfo, as_json: bool = False) -> None:
    """Write a mistake on the command line as one line of stderr; its code is only for scripts."""
    if as_json:
        complain(info, as_json)
    else:
        err.print(f"[bold red]error[/] {_plain(f'{info.message} {info.action}')}", soft_wrap=True)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")  # what an error quotes is not markup


def end_on_terminate() -> None:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that what a command has started is stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
