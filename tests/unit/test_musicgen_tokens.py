"""Decoding greedily gives the tokens of transformers' own generate, one for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from tests.musicgen_checkpoint import (  # noqa: E402
    FRAME_RATE,
    HOP,
    NAME,
    RATE,
    build,
    finish_all,
    job_of,
    save_checkpoint,
    spec_of,
    tokenizer,
)

from soundfleet_schemas import CATALOG, Precision  # noqa: E402
from soundfleet_worker.backends.contract import ModelConfig  # noqa: E402
from soundfleet_worker.backends.musicgen import MusicGenModel  # noqa: E402
from soundfleet_worker.musicgen.launch import FixedLaunch  # noqa: E402
from soundfleet_worker.musicgen.loading import load  # noqa: E402
from soundfleet_worker.musicgen.pace import Pace  # noqa: E402
from soundfleet_worker.musicgen.piece import Piece  # noqa: E402
from soundfleet_worker.musicgen.sampling import Knobs, choose  # noqa: E402

SECONDS = 6
PROMPTS = ("warm lofi", "a very slow piece for rain, tape and piano", "x")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["mono", "stereo"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[MusicGenModel, Any]:
    """A loaded checkpoint and transformers' model with the same weights."""
    return _pair(tmp_path_factory.mktemp("models"), stereo=request.param == "stereo")


@pytest.fixture(scope="module", params=["mono", "stereo"])
def melodious(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[MusicGenModel, Any]:
    """The same of the melody models."""
    return _pair(tmp_path_factory.mktemp("models"), stereo=request.param == "stereo", melody=True)


def _pair(directory: Path, *, stereo: bool, melody: bool = False) -> tuple[MusicGenModel, Any]:
    save_checkpoint(directory / NAME, stereo=stereo, melody=melody)
    of_the_kind = CATALOG["musicgen_melody" if melody else "musicgen"]
    spec = spec_of(channels=2 if stereo else 1, inputs=of_the_kind.inputs)
    source = ModelConfig(model_dir=directory, precision=Precision.Float32)
    with torch.inference_mode():
        loaded = load(spec, source, torch.device("cpu"))
        return MusicGenModel(spec, loaded, slots=8, pace=Pace(span=5, fill=7, others=2)), build(
            stereo=stereo, melody=melody
        )


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """(2, samples)."""
    return np.random.default_rng(seed).normal(scale=0.3, size=(2, round(seconds * RATE))).astype(np.float32)


def transformers_says(model: Any, prompt: str, frames: int, **how: Any) -> torch.Tensor:
    """The codes, (codebooks, frames), that transformers' generate hands to its codec."""
    codes: list[torch.Tensor] = []
    decode = model.audio_encoder.decode

    def listen(audio_codes: torch.Tensor, **more: Any) -> Any:
        codes.append(audio_codes[0, 0])
        return decode(audio_codes, **more)

    words = tokenizer()(prompt, return_tensors="pt")
    model.audio_encoder.decode = listen
    try:
        tokens = frames + model.config.decoder.num_codebooks // model.config.decoder.audio_channels - 1
        model.generate(**words, do_sample=False, max_new_tokens=tokens, **how)
    finally:
        model.audio_encoder.decode = decode
    if len(codes) == 1:
        return codes[0]
    return torch.stack(codes, dim=1).flatten(0, 1)  # left and right in turns


def ours(model: MusicGenModel, tmp_path: Path, prompts: tuple[str, ...], **how: Any) -> list[Piece]:
    """Pieces decoded greedily side by side."""
    runs = [model.begin(job_of(tmp_path, prompt, seconds=SECONDS, temperature=0.0, **how)) for prompt in prompts]
    finish_all(model, runs)
    for run in runs:
        model.finish(run)
    assert all(isinstance(run, Piece) for run in runs)
    return runs  # type: ignore[return-value]  # they are


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_tokens_equal_those_of_generate(
    pair: tuple[MusicGenModel, Any], tmp_path: Path, guidance: float
) -> None:
    """Three prompts of three lengths beside each other; generate has each of them alone."""
    model, reference = pair
    for prompt, piece in zip(PROMPTS, ours(model, tmp_path, PROMPTS, guidance=guidance), strict=True):
        expected = transformers_says(reference, prompt, SECONDS * FRAME_RATE, guidance_scale=guidance)
        assert torch.equal(piece.codes, expected)
        assert len(expected.unique()) > len(expected), "the tokens tell nothing"


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_continuation_equals_generate_with_an_audio_prompt(
    pair: tuple[MusicGenModel, Any], tmp_path: Path, guidance: float
) -> None:
    """The prompt is longer than one filling, and all of it is at the track's beginning."""
    model, reference = pair
    audio = noise(seconds=3.2)
    known = audio.shape[1] // HOP
    (piece,) = ours(model, tmp_path, PROMPTS[:1], guidance=guidance, inputs={"source": audio})
    heard = audio if model._checkpoint.codec.channels == 2 else audio.mean(axis=0, keepdims=True)
    expected = transformers_says(
        reference,
        PROMPTS[0],
        SECONDS * FRAME_RATE - known,
        guidance_scale=guidance,
        input_values=torch.from_numpy(heard)[None],
    )
    assert torch.equal(piece.codes, expected)
    assert piece.windows[0].known == known


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_melody_is_followed_as_generate_does(
    melodious: tuple[MusicGenModel, Any], tmp_path: Path, guidance: float
) -> None:
    """With a reference and without one; generate gets the chromagram that ours has made."""
    from soundfleet_worker.musicgen.chroma import chromagram, repeated

    model, reference = melodious
    audio = noise(seconds=4.0)
    features = chromagram(torch.from_numpy(repeated(audio, RATE, 0.0)), RATE, bins=12)[None]
    (plain,) = ours(model, tmp_path, PROMPTS[:1], guidance=guidance)
    (led,) = ours(model, tmp_path, PROMPTS[:1], guidance=guidance, inputs={"reference": audio})
    frames = SECONDS * FRAME_RATE
    assert torch.equal(plain.codes, transformers_says(reference, PROMPTS[0], frames, guidance_scale=guidance))
    expected = transformers_says(reference, PROMPTS[0], frames, guidance_scale=guidance, input_features=features)
    assert torch.equal(led.codes, expected)
    assert not torch.equal(led.codes, plain.codes)


def test_later_windows_continue_the_last_seconds_of_the_ones_before(
    pair: tuple[MusicGenModel, Any], tmp_path: Path
) -> None:
    """40 s are a window of 30 s and one from 18 s on, which begins with the 12 s that are there."""
    model, reference = pair
    run = model.begin(job_of(tmp_path, PROMPTS[0], seconds=40, temperature=0.0))
    finish_all(model, [run])
    output = model.finish(run)
    assert isinstance(run, Piece)
    first = transformers_says(reference, PROMPTS[0], 30 * FRAME_RATE, guidance_scale=3.0)
    prompt = first[:, 18 * FRAME_RATE :]
    second = transformers_says(reference, PROMPTS[0], 10 * FRAME_RATE, guidance_scale=3.0, decoder_input_ids=prompt)
    assert torch.equal(run.codes[:, : 30 * FRAME_RATE], first)
    assert torch.equal(run.codes[:, 18 * FRAME_RATE :], second)
    assert output.parameters["windows"] == 2
    assert output.audio["track"].shape[1] == 40 * RATE


def test_the_launch_of_fixed_shapes_decodes_the_same_tokens(
    pair: tuple[MusicGenModel, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU captures as a graph, here without one: masks in the place of lengths."""
    compare_launches(pair[0], tmp_path, monkeypatch)


def test_the_launch_of_fixed_shapes_follows_melodies_as_well(
    melodious: tuple[MusicGenModel, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands before the tokens is masked and placed as in the exact launch."""
    compare_launches(melodious[0], tmp_path, monkeypatch)


def compare_launches(model: MusicGenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode with both; graphs of several reaches take turns."""
    monkeypatch.setattr("soundfleet_worker.musicgen.launch.REACHES", (16, 64))
    expected = [piece.codes for piece in ours(model, tmp_path, PROMPTS)]
    slots = model._studio.slots
    with torch.inference_mode():
        for slot in range(slots.count):
            slots.cache.clear(slot)
    monkeypatch.setattr(model._studio, "_launch", FixedLaunch(model._studio._network, slots))
    for piece, codes in zip(ours(model, tmp_path, PROMPTS), expected, strict=True):
        assert torch.equal(piece.codes, codes)


def test_a_launch_of_fixed_shapes_leaves_a_slot_alone_that_is_being_filled(
    pair: tuple[MusicGenModel, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes into the caches of every slot, and a long source is filled between its spans."""
    model, audio = pair[0], noise(seconds=3.2)
    (alone,) = ours(model, tmp_path, PROMPTS[:1], inputs={"source": audio})
    monkeypatch.setattr(model._studio, "_launch", FixedLaunch(model._studio._network, model._studio.slots))
    first = model.begin(job_of(tmp_path, PROMPTS[1], seconds=SECONDS, temperature=0.0))
    model.step([first])
    late = model.begin(job_of(tmp_path, PROMPTS[0], seconds=SECONDS, temperature=0.0, inputs={"source": audio}))
    finish_all(model, [first, late])
    for run in (first, late):
        model.finish(run)
    assert isinstance(late, Piece)
    assert torch.equal(late.codes, alone.codes)


def test_a_graph_is_made_anew_when_a_cache_has_moved(
    pair: tuple[MusicGenModel, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where memory ran out on the way to more slots: the caches that had grown by then are at another place."""
    slots = pair[0]._studio.slots
    launch = FixedLaunch(pair[0]._studio._network, slots)
    before = launch._graph(16, 1)
    assert launch._graph(16, 1) is before
    make, calls = torch.empty, iter(range(10))

    def scarce(*args: Any, **how: Any) -> torch.Tensor:
        if next(calls) == 2:
            raise MemoryError
        return make(*args, **how)

    monkeypatch.setattr(torch, "empty", scarce)
    with torch.inference_mode(), pytest.raises(MemoryError):
        slots.grow(slots.count + 1)
    assert launch._graph(16, 1) is not before


def test_the_drawn_token_is_that_of_a_stable_order() -> None:
    """Where the number falls among the tokens from the likeliest on; of equal ones the first comes first."""
    draws = torch.Generator().manual_seed(1)
    for step in range(40):
        logits = torch.randn(4, 3, 64, generator=draws) * 3
        if step % 2:
            logits = logits.round()
        uniform = torch.rand(4, 3, generator=draws) if step % 3 else torch.full((4, 3), 1 - 2.0**-24)
        knobs = Knobs(torch.ones(4), torch.tensor([0.5, 1, 1, 2]), torch.tensor([1, 5, 64, 64]), torch.ones(4))
        knobs.top_p[2] = 0.6
        assert torch.equal(choose(logits, uniform, knobs), drawn_slowly(logits, uniform, knobs))


def drawn_slowly(logits: torch.Tensor, uniform: torch.Tensor, knobs: Knobs) -> torch.Tensor:
    """Row by row, token by token."""
    drawn = torch.zeros(logits.shape[:2], dtype=torch.long)
    for slot in range(logits.shape[0]):
        for book in range(logits.shape[1]):
            row = logits[slot, book]
            order = sorted(range(len(row)), key=lambda token: (-float(row[token]), token))[: int(knobs.top_k[slot])]
            scaled = torch.full_like(row, -torch.inf)
            scaled[: len(order)] = row[order] / knobs.temperature[slot]
            shares = torch.softmax(scaled, dim=0)
            sums = torch.cumsum(shares, dim=0)
            count = max(1, int((sums - shares < knobs.top_p[slot])[: len(order)].sum()))
            target = uniform[slot, book] * sums[count - 1]
            place = min(int((sums <= target).sum()), count - 1)
            drawn[slot, book] = order[place]
    return drawn
