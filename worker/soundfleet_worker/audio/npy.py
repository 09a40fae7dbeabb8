"""A `.npy` file of stereo float32 that is written before its length is known."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from .channels import Samples

_HEADER_BYTES = 128
"""Constant, so that the header can be written last. A multiple of 64, as the format asks."""


class StereoWriter:
    """Write blocks, then ``finish``; used as a context it leaves no file behind unless it was finished.

    An array in C order holds one whole channel after the other, so the right channel waits in a nameless file, and the
    file takes its own name only when it is complete.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = partial(path)
        self._right = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed by __exit__
        self._left = self._part.open("wb")
        self._left.write(bytes(_HEADER_BYTES))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._part.unlink(missing_ok=True)
        with suppress(OSError):  # what is still buffered may not fit on the disk, and nobody wants it
            self._left.close()
        with suppress(OSError):
            self._right.close()

    def write(self, block: Samples) -> None:
        """Append (1 or 2, n) samples; one channel is written to both sides."""
        self._left.write(np.ascontiguousarray(block[0]).data)
        self._right.write(np.ascontiguousarray(block[-1]).data)

    def finish(self, samples: int) -> None:
        """Make each channel ``samples`` long (cut, or padded with silence) and give the file its name."""
        left_end = _HEADER_BYTES + 4 * samples
        self._left.truncate(left_end)
        self._right.truncate(4 * samples)
        self._left.seek(left_end)
        self._right.seek(0)
        shutil.copyfileobj(self._right, self._left, 1 << 20)
        self._left.seek(0)
        self._left.write(_header(samples))
        self._left.close()
        os.replace(self._part, self._path)


def partial(path: Path) -> Path:
    """Name the file that ``path`` is while it is being written."""
    return path.with_name(path.name + ".part")


def _header(samples: int) -> bytes:
    """NumPy's format 1.0, as written in its NEP 1."""
    words = f"{{'descr': '<f4', 'fortran_order': False, 'shape': (2, {samples}), }}"
    text = words.ljust(_HEADER_BYTES - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little") + text.encode("ascii")
