"""yt-dlp's process: one video in, lines of JSON out. Started by ``video_process``."""

from __future__ import annotations

import os
import sys

import msgspec

from soundfleet_schemas import SoundfleetError, encode

from ..audio.decode_main import Failure, enter
from .video_jail import enter_jail
from .video_order import Order, Reply


def main() -> int:
    """Read the order, fetch, write progress and the reply, and return the exit status."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    enter(order.box, order.parent)
    replies = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no reply

    def reply(message: Reply) -> None:
        os.write(replies, encode(message) + b"\n")

    jail = enter_jail(order)
    from .video_download import download
    from .video_faults import too_much_memory

    try:
        reply(download(order, jail, reply))
    except SoundfleetError as exc:
        reply(Failure(error=exc.info))
    except MemoryError:
        reply(Failure(error=too_much_memory(order).info))
    return 0


if __name__ == "__main__":
    sys.exit(main())
