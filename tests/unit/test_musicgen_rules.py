"""The parts of MusicGen's loop, each by itself: delays, windows, draws, prompts, and what is no music."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
import transformers  # noqa: E402
from tests.musicgen_checkpoint import (  # noqa: E402
    FRAME_RATE,
    NAME,
    RATE,
    build,
    job_of,
    load_model,
    play,
    save_checkpoint,
)

from soundfleet_schemas import ErrorCode, GenerationRequest, SamplingOptions, SoundfleetError, Stage  # noqa: E402
from soundfleet_worker.backends.musicgen import MusicGenModel  # noqa: E402
from soundfleet_worker.musicgen.pattern import OPEN, Pattern  # noqa: E402
from soundfleet_worker.musicgen.sampling import Knobs, Sampling, choose, guide, settings_of, uniforms  # noqa: E402
from soundfleet_worker.musicgen.windows import Window, plan  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MusicGenModel:
    """A loaded tiny checkpoint."""
    directory = tmp_path_factory.mktemp("models")
    save_checkpoint(directory / NAME)
    return load_model(directory)


# Delays


@pytest.mark.parametrize(("codebooks", "channels"), [(4, 1), (8, 2)])
@pytest.mark.parametrize("known", [0, 1, 5])
def test_the_delay_pattern_is_that_of_transformers(codebooks: int, channels: int, known: int) -> None:
    """Position by position, with and without known frames."""
    pattern, frames = Pattern(codebooks, channels, pad=64), 9
    given = torch.randint(64, (codebooks, known))
    theirs = build(stereo=channels == 2).decoder
    start = torch.cat([torch.full((codebooks, 1), 64), given], dim=1)
    _, mask = theirs.build_delay_pattern_mask(start, 64, max_length=pattern.length(frames))
    row = pattern.lay(frames, given)
    assert torch.equal(row, mask)
    assert int((row == OPEN).sum()) == codebooks * (frames - known)
    assert pattern.steps(frames, known) == row.shape[1] - 1 - known


def test_what_is_laid_out_is_read_back() -> None:
    """Frames that are all known come back as they went in."""
    pattern, codes = Pattern(8, 2, pad=64), torch.randint(64, (8, 11))
    row = pattern.lay(11, codes)
    assert torch.equal(pattern.read(row, 0, 11), codes)
    assert torch.equal(pattern.read(row, 4, 7), codes[:, 4:7])


def test_a_frame_is_complete_when_its_last_codebook_is() -> None:
    """The last codebook comes three positions after the first; before that there is nothing to be heard."""
    pattern = Pattern(4, 1, pad=64)
    assert [pattern.complete(position) for position in (0, 3, 4, 5)] == [0, 0, 1, 2]
    assert pattern.complete(pattern.length(11) - 1) == 11


# Windows


@pytest.mark.parametrize(
    ("seconds", "known_sec", "expected"),
    [
        (5, 0, [(0, 5, 0)]),
        (30, 0, [(0, 30, 0)]),
        (31, 0, [(0, 30, 0), (18, 31, 12)]),
        (48, 0, [(0, 30, 0), (18, 48, 12)]),
        (49, 0, [(0, 30, 0), (18, 48, 12), (36, 49, 12)]),
        (120, 0, [(0, 30, 0)] + [(start, start + 30, 12) for start in (18, 36, 54, 72, 90)]),
        (20, 8, [(0, 20, 8)]),
        (40, 29, [(0, 30, 29), (18, 40, 12)]),
        (40, 30, [(18, 40, 12)]),
    ],
)
def test_windows_are_those_of_musicgens_authors(
    seconds: int, known_sec: int, expected: list[tuple[int, int, int]]
) -> None:
    """30 s each, every 18 s, with 12 s known, all in frames of 20 ms."""
    windows = plan(seconds * 50, known_sec * 50, 50)
    assert windows == tuple(Window(*(50 * value for value in window)) for window in expected)


# Draws


def test_the_draws_follow_the_distribution() -> None:
    """20,000 draws of one distribution, filtered and unfiltered, against transformers' own filters."""
    logits = torch.tensor([1.0, -1.0, 0.5, 2.0, -3.0, 0.0, 1.5, -0.5])
    cases: list[tuple[Sampling, list[Any]]] = [
        (Sampling(1.0, top_k=0, top_p=1.0, temperature=1.0), []),
        (Sampling(1.0, top_k=3, top_p=1.0, temperature=1.0), [transformers.TopKLogitsWarper(3)]),
        (Sampling(1.0, top_k=0, top_p=0.6, temperature=1.0), [transformers.TopPLogitsWarper(0.6)]),
        (Sampling(1.0, top_k=5, top_p=1.0, temperature=0.5), [transformers.TemperatureLogitsWarper(0.5)]),
    ]
    cases[3][1].append(transformers.TopKLogitsWarper(5))
    knobs = Knobs.on(torch.device("cpu"), len(cases))
    for slot, (sampling, _) in enumerate(cases):
        knobs.turn(slot, sampling, vocabulary=8)
    uniform = uniforms(3, 1, (20_000,))[0][0]
    for slot, (_, warpers) in enumerate(cases):
        scores = logits[None]
        for warper in warpers:
            scores = warper(None, scores)
        rows = torch.full((20_000,), slot)
        drawn = choose(logits.expand(20_000, 1, 8), uniform[:, None], knobs.of(rows))
        shares = torch.bincount(drawn[:, 0], minlength=8) / 20_000
        torch.testing.assert_close(shares, torch.softmax(scores[0], dim=-1), atol=0.012, rtol=0)


def test_the_outermost_draws_are_tokens_that_may_be_drawn() -> None:
    """The number 0 and the largest below 1, also when all but one token are filtered out."""
    logits = torch.tensor([0.0, 5.0, 5.0, -torch.inf])
    knobs = Knobs.on(torch.device("cpu"), 2)
    knobs.turn(0, Sampling(1.0, top_k=1, top_p=1.0, temperature=1.0), 4)
    knobs.turn(1, Sampling(1.0, top_k=0, top_p=1.0, temperature=1.0), 4)
    ends = torch.tensor([[0.0, float(np.nextafter(np.float32(1), np.float32(0)))]]).expand(2, 2)
    drawn = choose(logits.expand(2, 2, 4), ends, knobs)
    assert drawn.tolist() == [[1, 1], [1, 0]]


def test_guidance_is_that_of_transformers_and_1_asks_the_prompt_alone() -> None:
    """Per slot; what the row without the prompt says does not matter when it is off."""
    logits = torch.randn(2, 2, 4, 8)
    logits[1, 1] = float("nan")
    guided = guide(logits, torch.tensor([3.0, 1.0]))
    theirs = transformers.ClassifierFreeGuidanceLogitsProcessor(3.0)
    expected = theirs(torch.zeros(4, 1), torch.cat([logits[0, 0], logits[1, 0]]))
    torch.testing.assert_close(guided[0], expected)
    assert torch.equal(guided[1], logits[0, 1])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, Sampling(3.0, top_k=250, top_p=1.0, temperature=1.0)),
        (SamplingOptions(guidance=5.0, top_k=0), Sampling(5.0, top_k=0, top_p=1.0, temperature=1.0)),
        (SamplingOptions(top_p=0.9), Sampling(3.0, top_k=0, top_p=0.9, temperature=1.0)),
        (SamplingOptions(temperature=0.0, top_p=0.9), Sampling(3.0, top_k=1, top_p=1.0, temperature=1.0)),
    ],
)
def test_options_come_to_settings(asked: SamplingOptions | None, expected: Sampling) -> None:
    """top_p replaces top_k, and temperature 0 both."""
    assert settings_of(GenerationRequest(prompt="x", duration_sec=5, sampling=asked)) == expected


# Prompts

PROMPTS = {
    "latin": "café à la crème, größer, señor ".ljust(512, "y"),
    "cyrillic": "медленный дождь " * 32,
    "chinese": "夜晚的雨声和钢琴" * 64,
    "arabic": "موسيقى هادئة للدراسة" * 25 + "ممممممممممم",
    "hindi": "बारिश की आवाज़ " * 34,
    "emoji": "🎹🌧️🎷" * 128,
    "joined": "👩‍👩‍👧‍👦" * 74,
    "ligatures": "ﷺ㎯㍿" * 170,
    "one word": "a" * 512,
}


@pytest.mark.parametrize("script", PROMPTS)
def test_prompts_of_512_characters_in_any_script_are_encoded(model: MusicGenModel, script: str) -> None:
    """Characters may become several tokens, and then the last ones are left out, which is said."""
    prompt = PROMPTS[script][:512]
    assert len(prompt) >= 490
    with torch.inference_mode():
        encoded = model._checkpoint.text.encode(prompt)
    assert 1 < len(encoded.states) <= 512
    assert torch.isfinite(encoded.states).all()


def test_a_prompt_that_is_cut_is_told_of_in_the_result(model: MusicGenModel, tmp_path: Path) -> None:
    """512 characters and the mark of the end are more tokens than the model reads."""
    (output,) = play(model, [job_of(tmp_path, "a" * 512, seconds=5)])
    assert any("the prompt is 2 tokens longer than the 512" in warning for warning in output.warnings)
    (output,) = play(model, [job_of(tmp_path, "a" * 500, seconds=5)])
    assert not output.warnings


# Runs


def test_a_run_says_where_it_is(model: MusicGenModel, tmp_path: Path) -> None:
    """Every call moves it on; what is complete becomes audio at once, so that little is left after the last token."""
    run = model.begin(job_of(tmp_path, seconds=12))
    tokens, codec = 12 * FRAME_RATE + 3, model._checkpoint.codec
    assert run.total_steps == tokens + codec.steps(12 * FRAME_RATE)
    stages = []
    while not run.done:
        before = run.current_step
        model.step([run])
        assert before < run.current_step <= run.total_steps
        if not stages or stages[-1] is not run.stage:
            stages.append(run.stage)
            after = run.total_steps - run.current_step
    assert stages == [Stage.infer, Stage.decode]
    assert 0 < after <= 2
    assert run.current_step == run.total_steps
    parameters = model.finish(run).parameters
    assert parameters["checkpoint"] == NAME
    assert (parameters["guidance"], parameters["top_k"], parameters["windows"]) == (3.0, 250, 1)


def test_memory_is_predicted_from_the_duration(model: MusicGenModel, tmp_path: Path) -> None:
    """Twice as long takes twice as much; the slots are the model's."""
    five, ten = (model.memory_of(job_of(tmp_path, seconds=seconds)) for seconds in (5, 10))
    assert ten == 2 * five > 2 * 5 * RATE * 4
    assert model.memory_bytes > model._studio.slots.cache.nbytes


def test_a_long_source_is_heard_from_its_last_30_seconds(model: MusicGenModel, tmp_path: Path) -> None:
    """The track begins with them, and the result says so."""
    source = np.random.default_rng(0).normal(scale=0.3, size=(2, 45 * RATE))
    (long,) = play(model, [job_of(tmp_path, seconds=35, inputs={"source": source})])
    (short,) = play(model, [job_of(tmp_path, seconds=35, inputs={"source": source[:, -30 * RATE :]})])
    assert np.array_equal(long.audio["track"], short.audio["track"])
    assert long.parameters["continued_sec"] == 30.0
    assert any("last 30 s of the source" in warning for warning in long.warnings)
    assert not short.warnings


def test_a_source_that_leaves_no_room_is_refused(model: MusicGenModel, tmp_path: Path) -> None:
    """duration_sec counts the source that the track begins with."""
    source = np.zeros((2, 10 * RATE), dtype=np.float32)
    with pytest.raises(SoundfleetError, match=r"the track begins with 10\.0 s of the source") as caught:
        model.begin(job_of(tmp_path, seconds=10, inputs={"source": source}))
    assert caught.value.code is ErrorCode.INVALID_DURATION


def test_a_source_without_sound_is_refused(model: MusicGenModel, tmp_path: Path) -> None:
    """Less than a frame."""
    with pytest.raises(SoundfleetError, match=r"AUDIO_EMPTY: .*the source has 100 samples"):
        model.begin(job_of(tmp_path, inputs={"source": np.zeros((2, 100))}))


def test_a_reference_needs_a_melody_model(model: MusicGenModel, tmp_path: Path) -> None:
    """The others would not hear it."""
    with pytest.raises(SoundfleetError, match="follows no melody") as caught:
        model.begin(job_of(tmp_path, inputs={"reference": np.zeros((2, RATE))}))
    assert caught.value.code is ErrorCode.INVALID_OPTION


@pytest.mark.parametrize(
    ("scale", "code", "what"),
    [
        (0.0, ErrorCode.OUTPUT_SILENT, "the track is silent"),
        (float("nan"), ErrorCode.MODEL_INFERENCE_FAILED, "samples that are not numbers"),
    ],
)
def test_what_is_no_music_is_no_result(
    model: MusicGenModel, tmp_path: Path, scale: float, code: ErrorCode, what: str
) -> None:
    """Silence and broken numbers end the job before it counts as completed."""
    job = job_of(tmp_path, seconds=5)
    with rescaled(model, scale), pytest.raises(SoundfleetError, match=what) as caught:
        play(model, [job])
    assert caught.value.code is code


def test_a_track_beyond_full_scale_is_turned_down(model: MusicGenModel, tmp_path: Path) -> None:
    """To -1 dBFS, and the result says by how much."""
    (plain,) = play(model, [job_of(tmp_path, seconds=5)])
    with rescaled(model, 50.0):
        (loud,) = play(model, [job_of(tmp_path, seconds=5)])
    assert np.abs(loud.audio["track"]).max() == pytest.approx(10 ** (-1 / 20), rel=1e-5)
    assert any("clipped" in warning for warning in loud.warnings)
    gains = plain.parameters["gain"] / (50 * loud.parameters["gain"])
    np.testing.assert_allclose(loud.audio["track"] * gains, plain.audio["track"], atol=1e-5)


@contextlib.contextmanager
def rescaled(model: MusicGenModel, scale: float) -> Iterator[None]:
    """Let the codec's last layer speak so much louder."""
    last = model._checkpoint.codec._model.decoder.layers[-1]
    hook = last.register_forward_hook(lambda _module, _inputs, output: output * scale)
    try:
        yield
    finally:
        hook.remove()
