"""How a piece longer than the model was trained on is decoded: in windows that hear the end of the one before.

The model knows 30 s. Windows start every 18 s, so each begins with the 12 s that are already there, as MusicGen's
authors do it.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_SEC = 30
STRIDE_SEC = 18


@dataclass(frozen=True, slots=True)
class Window:
    """Frames ``start`` to ``end`` of a piece, of which the first ``known`` are there before it is decoded."""

    start: int
    end: int
    known: int

    @property
    def frames(self) -> int:
        """Its length, what is known included."""
        return self.end - self.start


def plan(frames: int, known: int, frame_rate: int) -> tuple[Window, ...]:
    """Cover a piece of ``frames`` frames, the first ``known`` of which are given."""
    size, stride = WINDOW_SEC * frame_rate, STRIDE_SEC * frame_rate
    windows = []
    done = known
    while done < frames:
        start = 0 if done < size else ((done - size) // stride + 1) * stride
        end = min(start + size, frames)
        windows.append(Window(start, end, done - start))
        done = end
    return tuple(windows)
