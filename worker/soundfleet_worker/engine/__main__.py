"""``python -m soundfleet_worker.engine --fd N --config JSON``: one engine on an inherited socket."""

from __future__ import annotations

import argparse
import sys

from soundfleet_schemas import ErrorCode, SoundfleetError

from .config import read_config
from .process import be_the_one_to_kill, die_with_parent, parent_is_gone, quiet_stdout, serve
from .wire import EXIT_ORPHANED, EXIT_REFUSED


def main() -> int:
    """Run the engine; returns the exit status."""
    die_with_parent()
    be_the_one_to_kill()
    quiet_stdout()
    parser = argparse.ArgumentParser(prog="python -m soundfleet_worker.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited end of a socket pair")
    parser.add_argument("--config", default="{}", help="EngineConfig as JSON")
    args = parser.parse_args()
    if parent_is_gone(args.fd):
        return EXIT_ORPHANED
    try:
        return serve(args.fd, read_config(args.config))
    except SoundfleetError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1 if exc.code == ErrorCode.DEVICE_FAILED else EXIT_REFUSED  # a busy device may be free another time


if __name__ == "__main__":
    sys.exit(main())
