"""What becomes of runs that fail, and of what they made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.unit.desk import Desk

from soundfleet_schemas import BackendStatus, ErrorCode, error
from soundfleet_worker.backends.contract import EngineJob
from soundfleet_worker.engine.faults import Poisoned
from soundfleet_worker.engine.shelf import TRY_AGAIN_SEC
from soundfleet_worker.engine.wire import Failed, Finished, Ready


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An engine with one backend, not yet open."""
    return Desk(tmp_path)


def test_one_bad_run_does_not_disturb_the_others(desk: Desk) -> None:
    """A launch that fails is repeated run by run, to find the one to blame."""

    def picky(names: list[str], _slots: int) -> None:
        if "b" in names:
            raise ZeroDivisionError("b is bad")

    desk.count.before_step = picky
    desk.open()
    for name in "abc":
        desk.start(name, "x 2")
    desk.finish_all()
    assert desk.ends() == {"a": "Finished", "b": ErrorCode.MODEL_INFERENCE_FAILED, "c": "Finished"}
    [failed] = desk.of(Failed)
    assert "b is bad" in failed.error.message
    assert "ZeroDivisionError" in failed.detail
    assert "discard b" in desk.count.log


def test_an_error_raised_on_purpose_keeps_its_code(desk: Desk) -> None:
    """What a backend says by name is what the job hears."""

    def refuse(_job: EngineJob) -> None:
        raise error(ErrorCode.AUDIO_EMPTY, "nothing to hear")

    desk.count.before_begin = refuse
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.AUDIO_EMPTY}


@pytest.mark.parametrize(
    "words", ["CUDA error: device-side assert triggered", "an illegal memory access was encountered"]
)
def test_a_broken_device_poisons_the_engine(desk: Desk, words: str) -> None:
    """Every run of the launch hears of it, and the process must end."""

    def broken(_names: list[str], _slots: int) -> None:
        raise RuntimeError(words)

    desk.count.before_step = broken
    desk.open()
    desk.start("a")
    desk.start("b")
    with pytest.raises(Poisoned):
        desk.engine.tick()
    assert [(m.run, m.error.code, m.poisoned) for m in desk.of(Failed)] == [
        ("a", ErrorCode.DEVICE_FAILED, True),
        ("b", ErrorCode.DEVICE_FAILED, True),
    ]


def test_an_unknown_backend_fails_the_run_only(desk: Desk) -> None:
    """The error lists what there is."""
    desk.open()
    desk.start("a", backend="nope")
    assert desk.ends() == {"a": ErrorCode.BACKEND_NOT_READY}
    assert "count" in desk.of(Failed)[0].error.message


def test_a_model_that_cannot_be_loaded_fails_its_runs(desk: Desk) -> None:
    """Its status says why, and it is tried again for the next run."""

    def broken() -> None:
        raise SystemExit("fatal: no such file")

    desk.count.before_load = broken
    desk.open()
    desk.start("a")
    desk.start("b")
    desk.finish_all()
    assert set(desk.ends().values()) == {ErrorCode.MODEL_LOAD_FAILED}
    backend = desk.of(Ready)[-1].backends[0]
    assert backend.status is BackendStatus.Error
    assert "no such file" in backend.message
    desk.count.before_load = lambda: None
    desk.start("c")
    desk.finish_all()
    assert desk.ends()["c"] == "Finished"
    assert desk.of(Ready)[-1].backends[0].status is BackendStatus.Ready


def test_a_model_that_did_not_load_is_offered_again_after_a_while(desk: Desk) -> None:
    """Else a worker whose files were mended would have to be started anew."""

    def broken() -> None:
        raise OSError("no such file")

    desk.count.before_load = broken
    desk.open()
    desk.start("a")
    desk.finish_all()
    for now, status in ((TRY_AGAIN_SEC - 1, BackendStatus.Error), (TRY_AGAIN_SEC + 1, BackendStatus.Ready)):
        desk.clock.now = 100 + now
        desk.engine.look_again()
        assert desk.of(Ready)[-1].backends[0].status is status


def test_a_backend_that_is_not_installed_says_what_to_do(desk: Desk) -> None:
    """BACKEND_NOT_READY carries the reason."""
    desk.count.installed = (BackendStatus.NotInstalled, "pip install something")
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.BACKEND_NOT_READY}
    assert "pip install something" in desk.of(Failed)[0].error.message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_fail_the_run(desk: Desk, bad: float) -> None:
    """One is enough."""
    audio = np.zeros((2, 1000), dtype=np.float32)
    audio[1, 500] = bad
    desk.count.audio = lambda: {"track": audio}
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.MODEL_INFERENCE_FAILED}


def test_output_is_written_to_scratch(desk: Desk) -> None:
    """As .npy of float32, (channels, samples)."""
    audio = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    desk.count.audio = lambda: {"track": audio}
    desk.open()
    desk.start("a")
    desk.finish_all()
    [file] = desk.of(Finished)[0].outputs
    assert (file.name, Path(file.path).parent) == ("track", desk.scratch)
    np.testing.assert_array_equal(np.load(file.path), audio)


def test_a_scratch_directory_is_made_when_it_is_needed(desk: Desk) -> None:
    """A run without input and output needs none."""
    desk.scratch = desk.scratch / "run"
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert not desk.scratch.exists()
    desk.count.audio = lambda: {"track": np.zeros((1, 8), dtype=np.float32)}
    desk.start("b")
    desk.finish_all()
    assert [path.name for path in desk.scratch.iterdir()] == ["track.npy"]


def test_output_that_is_already_mapped_there_is_not_written_again(desk: Desk) -> None:
    """A view of a part of such a file is."""
    mapped = np.lib.format.open_memmap(desk.scratch / "track.npy", mode="w+", dtype=np.float32, shape=(2, 100))
    mapped[:] = 1.0
    before = (desk.scratch / "track.npy").stat().st_ino, mapped.shape
    desk.count.audio = lambda: {"track": mapped, "part": mapped[:, :10]}
    desk.open()
    desk.start("a")
    desk.finish_all()
    track, part = (np.load(file.path) for file in desk.of(Finished)[0].outputs)
    assert ((desk.scratch / "track.npy").stat().st_ino, track.shape) == before
    assert part.shape == (2, 10)


def test_output_of_another_shape_is_the_backends_fault(desk: Desk) -> None:
    """Doubles, or a flat array, are refused."""
    desk.count.audio = lambda: {"track": np.zeros(100)}
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.MODEL_INFERENCE_FAILED}


def test_a_full_scratch_says_what_to_do(desk: Desk) -> None:
    """The path of the scratch is in the error."""
    desk.scratch = desk.scratch / "gone" / "too"
    desk.count.audio = lambda: {"track": np.zeros((1, 8), dtype=np.float32)}
    desk.open()
    desk.start("a")
    desk.finish_all()
    assert desk.ends() == {"a": ErrorCode.INTERNAL_ERROR}
    assert "SOUNDFLEET_SCRATCH_DIR" in desk.of(Failed)[0].error.action
