"""``local up``: a private Redis and S3 until Ctrl-C."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path
from typing import Annotated

import typer

from ..local import LocalStack
from . import options as o
from .console import ExitCode, emit, end_on_terminate, err, out, say

local = typer.Typer(no_args_is_help=True, help="A private Redis and S3 to try things out.")


@local.command()
def up(
    directory: Annotated[Path, typer.Option("--dir", help="Where the data stays between runs.")] = Path(
        ".soundfleet-local"
    ),
    redis_port: Annotated[int | None, typer.Option(help="A free one by default.")] = None,
    as_json: o.Json = False,
) -> int:
    """Run Redis and S3 until Ctrl-C, and print the environment that points the other commands at them.

    Example: soundfleet local up > env.sh & then, in another shell: source env.sh; soundfleet worker
    """
    end_on_terminate()
    with LocalStack(directory, redis_port=redis_port) as stack:
        if as_json:
            emit(dict(stack.env))
        else:
            for name, value in stack.env.items():
                say(f"export {name}={shlex.quote(value)}")
            out.file.flush()
            err.print("[dim]running; Ctrl-C stops it, the data stays in[/] " + str(directory), soft_wrap=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            err.print("[dim]stopped[/]")
    return ExitCode.OK
