"""The end of a song is foretold from what launches took; nobody waits for that, and nothing else follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
from tests.ace_step_checkpoint import build, job_of, load, recording  # noqa: E402

from soundfleet_schemas import SchedulerType, Task  # noqa: E402
from soundfleet_worker.ace_step.forecast import Leg, Rest, foretell  # noqa: E402
from soundfleet_worker.ace_step.launches import Launcher, Sizes  # noqa: E402
from soundfleet_worker.ace_step.song import Phase, Song  # noqa: E402
from soundfleet_worker.ace_step.speed import KEPT, WEIGHT, CudaTimer, Speed, Timer, WallTimer  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepModel  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AceStepModel:
    """A tiny checkpoint."""
    return load(build(tmp_path_factory.mktemp("models") / "acestep-v15-turbo"))


class Clock:
    """Time that goes on as it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Costly:
    """A module that takes time by the clock."""

    def __init__(self, clock: Clock, module: Any, sec: float) -> None:
        def spend(*_: Any) -> None:
            clock.now += sec

        self.handle = module.register_forward_hook(spend)


@pytest.fixture
def clock() -> Clock:
    """At zero."""
    return Clock()


@pytest.fixture
def launcher(model: AceStepModel, clock: Clock) -> Iterator[Launcher]:
    """On which a call takes two seconds, a launch of tiles six, and a tile to encode four."""
    parts = model._parts
    parts_of_time = [
        Costly(clock, parts.transformer.norm_out, 0.0),
        Costly(clock, parts.transformer.time_embed, 2.0),
        Costly(clock, parts.vae.decoder, 6.0),
        Costly(clock, parts.vae.encoder, 4.0),
    ]
    yield Launcher(parts, None, Sizes(10**9, 2, 2, 64), WallTimer(clock))
    for part in parts_of_time:
        part.handle.remove()


def song_of(launcher: Launcher, model: AceStepModel, tmp_path: Path, **asked: Any) -> Song:
    return launcher.begin(job_of(model.spec, tmp_path, **asked))


def test_the_first_song_of_a_warm_model_is_foretold(launcher: Launcher, model: AceStepModel, tmp_path: Path) -> None:
    """By the launches that were made when it was loaded; without them nothing is said."""
    assert song_of(launcher, model, tmp_path).left_sec is None
    launcher.warm()
    song = song_of(launcher, model, tmp_path)
    tiles_sec = 6.0 * song.tiles[0].length / (128 + 2 * launcher.reach)  # of a launch, which has two
    assert song.left_sec == pytest.approx(3 * 2.0 + len(song.tiles) / 2 * tiles_sec)


Foretold = list[tuple[float, Phase, float | None]]


def followed(launcher: Launcher, song: Song, clock: Clock) -> Foretold:
    """Play a song to its end; return when, in which phase, and how much was said to be left."""
    foretold: Foretold = []
    while not song.done:
        foretold.append((clock.now, song.phase, song.left_sec))
        launcher.advance([song])
    return foretold


@pytest.mark.parametrize("scheduler", list(SchedulerType))
def test_what_is_left_is_what_it_takes(
    launcher: Launcher, model: AceStepModel, clock: Clock, tmp_path: Path, scheduler: SchedulerType
) -> None:
    """At every step, once a song of the same shapes has been played."""
    followed(launcher, song_of(launcher, model, tmp_path, scheduler=scheduler), clock)
    foretold = followed(launcher, song_of(launcher, model, tmp_path, scheduler=scheduler), clock)
    assert [phase for _, phase, _ in foretold].count(Phase.denoise) == (5 if scheduler is SchedulerType.Heun else 3)
    assert [at + (left or 0.0) for at, _, left in foretold] == pytest.approx([clock.now] * len(foretold))


def test_recordings_count_as_what_they_take(
    launcher: Launcher, model: AceStepModel, clock: Clock, tmp_path: Path
) -> None:
    """Before they are encoded, while they are, and after."""
    inputs = {"source": recording(tmp_path / "source.npy", 10.0)}
    for _ in range(2):
        song = song_of(launcher, model, tmp_path, inputs=inputs, task=Task.repaint)
        foretold = followed(launcher, song, clock)
    assert [phase for _, phase, _ in foretold].count(Phase.encode) == 4
    assert [at + (left or 0.0) for at, _, left in foretold] == pytest.approx([clock.now] * len(foretold))


def test_company_is_foretold(launcher: Launcher, model: AceStepModel, clock: Clock, tmp_path: Path) -> None:
    """Five songs of two lengths, in turns, through launches of two: each knows when it will end."""
    shapes = [{"seed": seed, "duration_sec": 10 + seed % 2, "inference_steps": 2 + seed} for seed in range(1, 6)]
    for shape in shapes:
        followed(launcher, song_of(launcher, model, tmp_path, **shape), clock)
    songs = [song_of(launcher, model, tmp_path, **shape) for shape in shapes]
    foretold: list[dict[int, float]] = []
    ended: dict[int, float] = {}
    while going := [song for song in songs if not song.done]:
        launcher.advance(going)
        foretold.append({id(song): clock.now + (song.left_sec or 0.0) for song in going})
        ended |= {id(song): clock.now for song in going if song.done}
    for told in foretold:
        assert told == pytest.approx({name: ended[name] for name in told})


def test_many_launches_are_foretold_in_strides() -> None:
    """Within a stride of the truth, and not one by one."""
    rests = [Rest([Leg("calls", 1.0, 1, False, 1000), Leg("tiles", 2.0, 2, True, 501)], served=0) for _ in range(2)]
    foretell(rests)
    assert max(rest.ends_sec for rest in rests) == pytest.approx(2 * 1000 + 501 * 2.0, rel=0.03)


def test_what_was_measured_changes_no_shape(model: AceStepModel, clock: Clock, tmp_path: Path) -> None:
    """Every process lays a song out alike, however fast it is."""
    laid_out = []
    for sec in (0.001, 1000.0):
        costly = Costly(clock, model._parts.vae.decoder, sec)
        launcher = Launcher(model._parts, None, Sizes(10**9, 2, 2, 512), WallTimer(clock))
        launcher.warm()
        laid_out.append(song_of(launcher, model, tmp_path).tiles)
        costly.handle.remove()
    assert laid_out[0] == laid_out[1]


class Behind(Timer):
    """A device that ends what it was given when it is told to."""

    def __init__(self) -> None:
        self.given = 0
        self.ended = 0

    def mark(self) -> int:
        self.given += 1
        return self.given

    def between(self, start: int, end: int) -> float | None:
        return float(10 * (end - start)) if end <= self.ended else None


def test_a_device_that_works_behind_is_not_waited_for() -> None:
    """What it has not ended is not known yet; it is later, in the order in which it was given."""
    timer = Behind()
    speed = Speed(timer)
    for size in (100, 200):
        with speed.timing(Phase.denoise, size):
            pass
    assert speed.launch_sec(Phase.denoise, 100) is None
    timer.ended = 2
    assert speed.launch_sec(Phase.denoise, 100) == 10.0
    assert speed.launch_sec(Phase.denoise, 300) == 30.0  # in proportion to what is known
    timer.ended = 4
    assert speed.launch_sec(Phase.denoise, 300) == 15.0  # and now to the nearer size


def test_speeds_are_moving_means_of_few_sizes(clock: Clock) -> None:
    """A launch that failed does not count; sizes that were not seen for long are forgotten."""
    speed = Speed(WallTimer(clock))

    def launch(size: int, sec: float) -> None:
        with speed.timing(Phase.decode, size):
            clock.now += abs(sec)
            if sec < 0:
                raise ValueError("negative")

    for sec in (9.0, 1.0, 2.0):
        launch(100, sec)
    assert speed.launch_sec(Phase.decode, 100) == pytest.approx(1.0 + WEIGHT), "the first one made the kernels"
    launch(200, 50.0)
    assert speed.launch_sec(Phase.decode, 200) == pytest.approx(2 * (1.0 + WEIGHT)), "and so did this one"
    with pytest.raises(ValueError, match="negative"):
        launch(100, -1.0)
    assert speed.launch_sec(Phase.decode, 100) == pytest.approx(1.0 + WEIGHT)
    assert speed.launch_sec(Phase.encode, 200) == pytest.approx(2.0 * (1.0 + WEIGHT))
    assert speed.launch_sec(Phase.denoise, 200) is None
    for size in range(1000, 1000 + KEPT):
        for _ in range(2):
            launch(size, float(size))
    assert speed.launch_sec(Phase.decode, 100) == pytest.approx(100.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_only_a_gpu_has_its_own_timer(model: AceStepModel) -> None:
    """A CPU works while it is waited for."""
    assert not isinstance(Launcher(model._parts, None, Sizes(0, 1, 1, 64)).speed._timer, CudaTimer)
