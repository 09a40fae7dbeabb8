"""Segments, windows and weights, and the mix that is read through them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from soundfleet_schemas import ErrorCode, SoundfleetError  # noqa: E402
from soundfleet_worker.separation.mix import Mix  # noqa: E402
from soundfleet_worker.separation.windows import Windows, grid  # noqa: E402


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("samples", [1, 37, 100, 101, 1234])
@pytest.mark.parametrize("shifts", [0, 2])
def test_the_weights_of_every_sample_add_up_to_one(overlap: float, samples: int, shifts: int) -> None:
    """In every pass, at both ends too: that is why nothing is divided afterwards."""
    layout = grid(0.1, overlap, 1000)
    windows = Windows(samples, layout, [0], shifts, 3, 1000, lambda _model, _kept: 100)
    total = np.zeros(samples)
    for index in range(len(windows)):
        window = windows[index]
        for position in range(window.kept):
            if 0 <= window.offset + position < samples:
                total[window.offset + position] += layout.blends[window.blend][position]
    np.testing.assert_allclose(total, max(shifts, 1), rtol=1e-5)


def test_a_window_is_centred_on_its_segment() -> None:
    """The last segment is short, and is seen with the audio before it."""
    windows = Windows(250, grid(0.1, 0.25, 1000), [0], 0, 0, 1000, lambda _model, _kept: 100)
    last = windows[len(windows) - 1]
    assert (last.offset, last.kept) == (225, 25)
    assert (last.start, last.trim, last.length) == (225 - 37, 37, 100)


def test_every_sub_model_makes_its_own_passes() -> None:
    """One after the other, with shifts of their own."""
    windows = Windows(500, grid(0.1, 0.25, 1000), [0, 2], 2, 1, 1000, lambda _model, kept: kept)
    every = [windows[index] for index in range(len(windows))]
    assert [window.model for window in every] == sorted(window.model for window in every)
    assert len({window.offset for window in every if window.blend == 0}) == 4
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_segments_that_would_not_advance_are_refused() -> None:
    """A stride below one sample would never end."""
    with pytest.raises(SoundfleetError) as caught:
        grid(0.00002, 0.25, 44_100)
    assert caught.value.code == ErrorCode.INVALID_OPTION


def mix_of(path: Path, audio: np.ndarray) -> Mix:
    np.save(path / "mix.npy", audio)
    return Mix(path / "mix.npy", torch.device("cpu"))


@pytest.mark.parametrize("start", [-30, 0, 60, 95, 200])
def test_reading_beyond_the_mix_is_silence(tmp_path: Path, start: int) -> None:
    """And within it the audio is normalised."""
    audio = np.arange(200, dtype=np.float32).reshape(2, 100)
    mix = mix_of(tmp_path, audio)
    out = torch.zeros(2, 50)
    mix.read(start, out)
    padded = np.pad((audio - mix.mean) / mix.std, ((0, 0), (100, 200)))
    np.testing.assert_allclose(out.numpy(), padded[:, start + 100 : start + 150], rtol=1e-5)
    assert mix.mean == pytest.approx(audio.mean())
    assert mix.std == pytest.approx(audio.mean(axis=0).std(ddof=1))


@pytest.mark.parametrize(
    ("audio", "code"),
    [
        (np.zeros((2, 0), dtype=np.float32), ErrorCode.AUDIO_EMPTY),
        (np.full((2, 9), np.nan, dtype=np.float32), ErrorCode.AUDIO_CORRUPT),
        (np.zeros((2, 9)), ErrorCode.INTERNAL_ERROR),
        (np.zeros((1, 9), dtype=np.float32), ErrorCode.INTERNAL_ERROR),
    ],
)
def test_a_mix_that_cannot_be_used_is_refused(tmp_path: Path, audio: np.ndarray, code: ErrorCode) -> None:
    """Before anything is reserved for it."""
    with pytest.raises(SoundfleetError) as caught:
        mix_of(tmp_path, audio)
    assert caught.value.code == code


def test_a_mix_that_is_no_array_is_refused(tmp_path: Path) -> None:
    """Cut off, or not there at all; a pickle is never opened."""
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("cut.npy", "object.npy", "gone.npy"):
        with pytest.raises(SoundfleetError) as caught:
            Mix(tmp_path / name, torch.device("cpu"))
        assert caught.value.code == ErrorCode.INTERNAL_ERROR
