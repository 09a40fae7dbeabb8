"""``python -m soundfleet_worker``: one worker, configured by the environment."""

from __future__ import annotations

import sys

from soundfleet_producer.settings import Settings
from soundfleet_schemas import SoundfleetError

from .main import EXIT_FAILED, run


def main() -> int:
    """Run a worker; a wrong configuration is one line on stderr."""
    try:
        return run(Settings.load())
    except SoundfleetError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
