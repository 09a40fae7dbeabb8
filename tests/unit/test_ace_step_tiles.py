"""The VAE in tiles equals the whole, and sees progress and cancellation to the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
from diffusers import AutoencoderOobleck  # noqa: E402
from tests.ace_step_checkpoint import build, job_of, load, recording  # noqa: E402

from soundfleet_schemas import Task  # noqa: E402
from soundfleet_worker.ace_step.costs import Costs  # noqa: E402
from soundfleet_worker.ace_step.oobleck import ready  # noqa: E402
from soundfleet_worker.ace_step.song import Phase, Song  # noqa: E402
from soundfleet_worker.ace_step.tiles import Tile, decode, encode, reach_of, tiles_of  # noqa: E402

RATIOS = [2, 4, 4, 6, 10]
HOP = 1920


pytestmark = pytest.mark.usefixtures("one_thread")


def small_vae() -> Any:
    """Always the same weights, in the published ratios."""
    torch.manual_seed(4)
    vae = AutoencoderOobleck(
        encoder_hidden_size=8,
        downsampling_ratios=RATIOS,
        channel_multiples=[1, 1, 1, 2, 2],
        decoder_channels=4,
        decoder_input_channels=4,
        sampling_rate=48_000,
    ).eval()
    for name, parameter in vae.named_parameters():
        if name.endswith(("alpha", "beta")):
            parameter.data.normal_(0.0, 0.3)
    return vae


@pytest.fixture(scope="module")
def vae() -> Any:
    """A small one as diffusers has it."""
    return small_vae()


@pytest.fixture(scope="module")
def fast() -> Any:
    """The same, made ready for inference."""
    return ready(small_vae())


@pytest.mark.parametrize("frames", [1, 40, 41, 67, 200])
@pytest.mark.parametrize("slots", [1, 3])
@torch.inference_mode()
def test_decoded_tiles_equal_the_whole(vae: Any, fast: Any, frames: int, slots: int) -> None:
    """Shorter than a tile, as long, and longer; one to a launch and several, of several runs."""
    runs = [torch.randn((frames, 4), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    wholes = [vae.decode(run.T[None]).sample[0] for run in runs]
    todo = [(run, tile) for tile in tiles_of(frames, 20, reach_of(RATIOS)) for run in range(2)]
    pieces: list[list[Any]] = [[], []]
    for first in range(0, len(todo), slots):
        batch = todo[first : first + slots]
        for (run, _), piece in zip(
            batch, decode(fast, [runs[run] for run, _ in batch], [tile for _, tile in batch], slots), strict=True
        ):
            pieces[run].append(piece)
    for whole, parts in zip(wholes, pieces, strict=True):
        torch.testing.assert_close(torch.cat(parts, dim=-1), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [40, 67])
@torch.inference_mode()
def test_encoded_tiles_equal_the_whole(vae: Any, fast: Any, frames: int) -> None:
    """Means and scales alike."""
    audio = torch.randn((2, frames * HOP), generator=torch.Generator().manual_seed(1))
    tiles = tiles_of(frames, 20, reach_of(RATIOS))
    said = torch.cat([encode(fast, audio, tile, HOP) for tile in tiles], dim=-1)
    torch.testing.assert_close(said, vae.encode(audio[None]).latent_dist.parameters[0], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_reach_is_as_far_as_a_sample_sees(vae: Any) -> None:
    """A latent frame farther away than that changes nothing; one that is nearer does."""
    reach, middle = reach_of(RATIOS), 50
    latents = torch.randn((1, 4, 101), generator=torch.Generator().manual_seed(1))
    changed = latents.clone()
    changed[..., middle] += 1.0
    difference = (vae.decode(changed).sample - vae.decode(latents).sample).abs().amax(dim=(0, 1))
    touched = torch.nonzero(difference).flatten() // HOP
    assert middle - reach <= int(touched.min())
    assert int(touched.max()) <= middle + reach
    assert int(touched.max()) - middle >= reach - 2


def test_tiles_have_one_length_and_keep_every_frame_once() -> None:
    """Also the last, which is shifted inwards; each has the reach on both sides or an end."""
    for frames in range(1, 130):
        tiles = tiles_of(frames, 20, 9)
        assert len({tile.length for tile in tiles}) == 1
        assert [tile.keep_from for tile in tiles] == [0, *(tile.keep_to for tile in tiles[:-1])]
        assert tiles[-1].keep_to == frames
        for tile in tiles:
            end = tile.start + tile.length
            assert 0 <= tile.start <= max(0, tile.keep_from - 9)
            assert min(frames, tile.keep_to + 9) <= end <= frames
    assert tiles_of(38, 20, 9) == [Tile(0, 38, 0, 38)]


def test_every_tile_is_a_step(tmp_path: Path) -> None:
    """Recordings in, denoising, music out: progress is even to the end, and a cancel acts after any of them."""
    model = load(build(tmp_path / "acestep-v15-turbo"))
    inputs = {name: recording(tmp_path / f"{name}.npy", 10.0) for name in ("source", "reference")}
    run = model.begin(job_of(model.spec, tmp_path, inputs=inputs, duration_sec=10, task=Task.repaint))
    assert isinstance(run, Song)
    seen: list[Phase] = []
    while not run.done:
        seen.append(run.phase)
        step = run.current_step
        model.step([run])
        assert run.current_step == step + 1
    assert len(seen) == run.total_steps
    assert {phase: seen.count(phase) for phase in Phase} == {
        Phase.encode: len(tiles_of(250, 64, reach_of(RATIOS))) + len(tiles_of(750, 64, reach_of(RATIOS))),
        Phase.denoise: 3,
        Phase.decode: len(tiles_of(250, 64, reach_of(RATIOS))),
    }
    assert len(run.tiles) == seen.count(Phase.decode)
    assert seen == sorted(seen, key=list(Phase).index)
    assert np.isfinite(model.finish(run).audio["track"]).all()


def test_a_tile_costs_about_as_much_as_a_call(tmp_path: Path) -> None:
    """Within what a power of two allows; never more than memory allows, nor so little that margins outweigh it."""
    parts = load(build(tmp_path / "acestep-v15-turbo"))._parts
    costs = Costs(parts)
    rows = -(-400 * costs.frame // costs.call(1000, 1))  # so many rows that a call costs as much as 400 frames
    assert costs.tile_frames(1000, rows, 1024) == 512
    assert costs.tile_frames(1000, rows, 256) == 256
    assert costs.tile_frames(1000, 1, 1024) == 128
    assert costs.tile_frames(1000, 1, 64) == 64
