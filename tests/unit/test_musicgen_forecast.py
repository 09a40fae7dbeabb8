"""What MusicGen foretells of its pieces, on a clock that every kind of work moves by what it is said to cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
import numpy as np  # noqa: E402
from tests.musicgen_checkpoint import FRAME_RATE, NAME, RATE, job_of, load_model, save_checkpoint  # noqa: E402

from soundfleet_worker.backends.mean import Mean  # noqa: E402
from soundfleet_worker.backends.musicgen import MusicGenModel  # noqa: E402
from soundfleet_worker.musicgen import studio as studios  # noqa: E402
from soundfleet_worker.musicgen.codec import Decoding  # noqa: E402
from soundfleet_worker.musicgen.pace import Pace  # noqa: E402
from soundfleet_worker.musicgen.piece import Piece  # noqa: E402
from soundfleet_worker.musicgen.slots import Seat  # noqa: E402
from soundfleet_worker.musicgen.speed import TokenSpeed  # noqa: E402

WEIGHTS_SEC, POSITION_SEC, SOUND_SEC, FILL_SEC = 0.1, 0.0005, 2.0, 0.02
"""A token, what it costs more per position attended to, a step of the codec, a position that is filled."""
PACE = Pace(span=2, fill=64, others=2)
"""A real window has ten times as many tokens: spans are shorter here, so that they are as small a part of it."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    save_checkpoint(folder / NAME)
    return folder


class Timed:
    """A model whose work takes the time that it is said to take."""

    def __init__(self, model: MusicGenModel, patch: pytest.MonkeyPatch) -> None:
        self.sec, self.model = 0.0, model
        studio: Any = model._studio
        patch.setattr(studios, "perf_counter", lambda: self.sec)
        span, fill, sound = studio._launch.span, studio._fill, Decoding.step

        def timed_span(seats: Sequence[Seat], count: int) -> None:
            before = [seat.position for seat in seats]
            span(seats, count)
            moved = [seat.position - position for seat, position in zip(seats, before, strict=True)]
            positions = sum(seat.position - tokens / 2 for seat, tokens in zip(seats, moved, strict=True))
            self.sec += max(moved) * (WEIGHTS_SEC + POSITION_SEC * positions)

        def timed_fill(piece: Piece) -> None:
            before = piece.filled
            fill(piece)
            self.sec += FILL_SEC * (piece.filled - before)

        def timed_sound(decoding: Decoding) -> None:
            sound(decoding)
            self.sec += SOUND_SEC

        patch.setattr(studio._launch, "span", timed_span)
        patch.setattr(studio, "_fill", timed_fill)
        patch.setattr(Decoding, "step", timed_sound)

    def play(self, scratch: Path, seconds: Sequence[int], **given: Any) -> list[list[tuple[float, float | None]]]:
        """Make pieces side by side; returns for each the true and the foretold seconds left, from its middle on.

        The last step of the codec for each is left out: within those, whose comes first is not foretold.
        """
        began = self.sec
        runs = [self.model.begin(job_of(scratch, seconds=length, **given)) for length in seconds]
        told: dict[str, list[tuple[float, float | None]]] = {run.job.job_id: [] for run in runs}
        ends: dict[str, float] = {}
        while going := [run for run in runs if run.job.job_id not in ends]:
            self.model.step(going)
            for run in going:
                told[run.job.job_id].append((self.sec, run.left_sec))
                if run.done:
                    ends[run.job.job_id] = self.sec
                    self.model.finish(run)
        return [
            [
                (end - sec, left)
                for sec, left in told[run]
                if sec >= (began + end) / 2 and end - sec >= SOUND_SEC * len(seconds)
            ]
            for run, end in ends.items()
        ]


@pytest.fixture
def timed(models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Timed]:
    """Make a timed model with so many slots."""
    return lambda slots: Timed(load_model(models, slots=slots, pace=PACE), monkeypatch)


@pytest.mark.parametrize(
    ("slots", "seconds"),
    [
        (4, (30,)),
        (4, (120,)),
        (4, (90, 90, 90, 90)),
        (4, (80, 20, 20)),
        (2, (60, 60, 60, 60, 60)),
    ],
    ids=["alone", "in windows", "at once", "others leave", "more than slots"],
)
def test_what_is_left_is_foretold_from_the_middle_of_a_piece_on(
    timed: Callable[[int], Timed], tmp_path: Path, slots: int, seconds: tuple[int, ...]
) -> None:
    """Later tokens cost more than early ones, and a step of the codec as much as many; the first pieces of a worker."""
    for told in timed(slots).play(tmp_path, seconds):
        assert len(told) > 3
        for left, foretold in told:
            assert foretold == pytest.approx(left, rel=0.2)


def test_the_second_piece_is_foretold_from_its_first_step_on(timed: Callable[[int], Timed], tmp_path: Path) -> None:
    """By then all is known that the work costs."""
    model = timed(4)
    model.play(tmp_path, (30,))
    run = model.model.begin(job_of(tmp_path, seconds=60))
    began, foretold = model.sec, []
    while not run.done:
        model.model.step([run])
        foretold.append((model.sec, run.left_sec))
    for sec, left in foretold[: len(foretold) // 2]:
        assert left == pytest.approx(model.sec - sec, rel=0.15), sec - began


def test_a_source_is_counted_with_what_it_takes_to_hear_and_to_fill(
    timed: Callable[[int], Timed], tmp_path: Path
) -> None:
    """Twenty seconds are there already; they become audio with the rest."""
    source = np.random.default_rng(0).normal(scale=0.3, size=(2, 20 * RATE))
    (told,) = timed(4).play(tmp_path, (60,), inputs={"source": source})
    for left, foretold in told:
        assert foretold == pytest.approx(left, rel=0.2)


def test_the_price_of_a_position_is_learned() -> None:
    """The first guess is four times too low; after the spans of a window it is not."""
    speed = TokenSpeed(POSITION_SEC / WEIGHTS_SEC / 4, FRAME_RATE * 10)
    for position in range(0, 1500, 8):
        speed.drew(position, WEIGHTS_SEC + POSITION_SEC * position)
    assert speed.price == pytest.approx(POSITION_SEC / WEIGHTS_SEC, rel=0.25)
    assert speed.sec(1500) == pytest.approx(WEIGHTS_SEC + POSITION_SEC * 1500, rel=0.1)


def test_the_price_of_a_position_is_never_negative() -> None:
    """A machine that others leave while a piece grows seems to make later tokens cheaper."""
    speed = TokenSpeed(0.001, 50)
    for position in range(0, 1500, 8):
        speed.drew(position, 1.0 - position / 2000)
    assert speed.price == 0.0


def test_what_comes_only_once_is_soon_forgotten() -> None:
    """A first step that waits for a kernel, and one that is interrupted."""
    mean = Mean(0.1)
    for sec in (100.0, 1.0, 1.0, 100.0, *[1.0] * 10):
        mean.saw(sec)
    assert mean.sec == pytest.approx(1.0, abs=0.1)
