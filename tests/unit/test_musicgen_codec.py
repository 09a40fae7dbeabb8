"""EnCodec in steps gives what EnCodec gives at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
import transformers  # noqa: E402

from soundfleet_schemas import SoundfleetError  # noqa: E402
from soundfleet_worker.musicgen.codec import Codec, check  # noqa: E402

BOOKS = 4


pytestmark = pytest.mark.usefixtures("one_thread")


def encodec(**changes: Any) -> Any:
    """The shape of MusicGen's at its own rates, with few filters and random weights."""
    torch.manual_seed(1)
    shape = {
        "sampling_rate": 32_000,
        "target_bandwidths": [1.2],
        "upsampling_ratios": [8, 5, 4, 4],
        "num_filters": 4,
        "hidden_size": 16,
        "codebook_size": 64,
        "codebook_dim": 16,
        "use_causal_conv": False,
        "use_conv_shortcut": False,
    }
    model = transformers.EncodecModel(transformers.EncodecConfig(**{**shape, **changes})).eval()
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_()
    return model


def codes_of(frames: int, channels: int) -> torch.Tensor:
    """Random codes, the channels' in turns."""
    return torch.randint(64, (BOOKS * channels, frames), generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("frames", [3, 50, 157])
def test_stepped_decoding_equals_decoding_at_once(channels: int, causal: bool, frames: int) -> None:
    """Pieces shorter than a step, of whole steps, and with a rest; both paddings that EnCodec knows."""
    model = encodec(use_causal_conv=causal, trim_right_ratio=1.0, num_residual_layers=1 + causal)
    codec = Codec(model, channels, chunk=25)
    codes = codes_of(frames, channels)
    audio = np.zeros((channels, frames * 640), dtype=np.float32)
    with torch.inference_mode():
        decoding, steps = codec.decoding(codes, audio), 0
        while not decoding.done:
            decoding.step()
            steps += 1
        whole = [model.decode(codes[None, None, c::channels], [None]).audio_values[0, 0] for c in range(channels)]
    assert steps == codec.steps(frames)
    expected = torch.stack(whole).numpy()
    assert expected.shape == audio.shape
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(audio, expected, atol=1e-5 * np.abs(expected).max())


def test_a_step_that_failed_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The LSTM hears every frame once, whatever happens after it."""
    codec = Codec(encodec(), channels=1, chunk=25)
    tracks = []
    for fails in (False, True):
        audio = np.zeros((1, 100 * 640), dtype=np.float32)
        with torch.inference_mode():
            decoding = codec.decoding(codes_of(100, 1), audio)
            while not decoding.done:
                if fails:
                    with monkeypatch.context() as patch:
                        patch.setattr(decoding, "_rest", [_out_of_memory])
                        with pytest.raises(MemoryError):
                            decoding.step()
                decoding.step()
        tracks.append(audio)
    assert np.array_equal(*tracks)


def _out_of_memory(_values: torch.Tensor) -> torch.Tensor:
    raise MemoryError


@pytest.mark.parametrize("channels", [1, 2])
def test_audio_is_encoded_as_encodec_does(channels: int) -> None:
    """A mono model hears the mean of both channels; samples beyond whole frames are left out."""
    model = encodec()
    codec = Codec(model, channels, chunk=25)
    audio = np.random.default_rng(1).normal(scale=0.3, size=(2, 40 * 640 + 17)).astype(np.float32)
    with torch.inference_mode():
        encoding, codes, steps = codec.encoding(audio), None, 0
        while codes is None:
            codes = encoding.step()
            steps += 1
        heard = audio if channels == 2 else audio.mean(axis=0, keepdims=True)
        whole = model.encode(torch.from_numpy(heard[:, : 40 * 640])[:, None]).audio_codes[0]
    assert steps == codec.steps(40)
    assert codes.shape == (codec.codebooks, 40)
    for channel in range(channels):
        assert torch.equal(codes[channel::channels], whole[channel])


@pytest.mark.parametrize("changes", [{"norm_type": "time_group_norm"}, {"normalize": True}, {"chunk_length_s": 1.0}])
def test_a_codec_that_cannot_be_stepped_is_refused(changes: dict[str, Any]) -> None:
    """A norm over time, a scale per chunk and overlapping chunks would each sound otherwise in pieces."""
    with pytest.raises(SoundfleetError, match="MODEL_LOAD_FAILED: the audio encoder in here has"):
        check(transformers.EncodecConfig(**changes), "here")
