"""EnCodec in steps: from audio to codes, and from codes to audio, about a second at a time.

The convolutions hear only a few frames to each side, so a step computes its own frames and that margin, and keeps its
own. The LSTM between them and the frames goes through these once, its state carried from step to step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import parametrize

from soundfleet_schemas import ErrorCode, error


class Codec:
    """A checkpoint's EnCodec model, which codes one channel at a time."""

    def __init__(self, model: Any, channels: int, chunk: int) -> None:
        """``channels`` of the music; ``chunk`` frames are decoded per step."""
        self._model = model
        config = model.config
        self.channels, self.chunk = channels, chunk
        self.rate = int(config.sampling_rate)
        self.hop = int(config.hop_length)
        self.frame_rate = self.rate // self.hop
        self.width = int(config.num_filters) * 2 ** len(config.upsampling_ratios)
        """Of the states between LSTM and convolutions."""
        self.filters = int(config.num_filters)
        self.margin = _margin(config)
        per_channel = model.quantizer.get_num_quantizers_for_bandwidth(config.target_bandwidths[0])
        self.codebooks = channels * int(per_channel)
        self.device = next(model.parameters()).device
        _settle(model)

    def steps(self, frames: int) -> int:
        """How many steps encoding or decoding so many frames takes."""
        return math.ceil(frames / self.chunk)

    def encoding(self, audio: NDArray[np.float32]) -> Encoding:
        """Begin to encode audio (2, samples); samples beyond whole frames are left out."""
        return Encoding(self, self._model, audio)

    def decoding(self, codes: torch.Tensor, audio: NDArray[np.float32]) -> Decoding:
        """Begin to decode codes (codebooks, frames), still being written, into ``audio``, (channels, samples)."""
        return Decoding(self, self._model, codes, audio)


class Encoding:
    """Audio on its way to codes."""

    def __init__(self, codec: Codec, model: Any, audio: NDArray[np.float32]) -> None:
        self._codec, self._model, self._audio = codec, model, audio
        self._frames = audio.shape[1] // codec.hop
        self._states: list[torch.Tensor] = []
        self._place = 0

    def step(self) -> torch.Tensor | None:
        """Hear the next frames; after the last ones returns the codes, (codebooks, frames)."""
        codec = self._codec
        if self._place < self._frames:
            start, end = self._place, min(self._place + codec.chunk, self._frames)
            left, right = max(0, start - codec.margin), min(self._frames, end + codec.margin)
            values = self._read(left * codec.hop, right * codec.hop)
            for layer in self._model.encoder.layers[:-3]:
                values = layer(values)
            self._states.append(values[..., start - left : end - left])
            self._place = end
        if self._place < self._frames:
            return None
        states = torch.cat(self._states, dim=-1)
        for layer in self._model.encoder.layers[-3:]:  # the LSTM, and what comes after it: once per frame
            states = layer(states)
        codes = self._model.quantizer.encode(states, self._model.config.target_bandwidths[0])
        return codes.flatten(0, 1).cpu()  # type: ignore[no-any-return]  # an untyped library

    @property
    def left(self) -> int:
        """How many steps it will take."""
        return self._codec.steps(self._frames - self._place)

    def _read(self, start: int, end: int) -> torch.Tensor:
        """(channels, 1, samples); a mono model hears the mean."""
        heard = self._audio[:, start:end]
        if self._codec.channels == 1:
            heard = heard.mean(axis=0, keepdims=True)
        return torch.from_numpy(np.array(heard, dtype=np.float32)).to(self._codec.device)[:, None]


class Decoding:
    """Codes on their way to audio; each step hears the same frames, whenever it is made."""

    def __init__(self, codec: Codec, model: Any, codes: torch.Tensor, audio: NDArray[np.float32]) -> None:
        self._codec, self._codes, self._audio = codec, codes, audio
        self._quantizer = model.quantizer
        first, lstm, *rest = model.decoder.layers
        self._first, self._lstm = first, lstm.lstm
        self._rest: Sequence[Callable[[torch.Tensor], torch.Tensor]] = rest
        self._reach = (int(model.config.kernel_size) - 1) * int(first.conv.dilation[0])
        self._said: torch.Tensor | None = None
        """What the LSTM said of the frames from ``_kept`` to ``_heard``, (channels, width, frames)."""
        self._memory: tuple[torch.Tensor, torch.Tensor] | None = None
        self._kept = self._heard = self._place = 0

    @property
    def frames(self) -> int:
        """Of the whole piece."""
        return self._codes.shape[1]

    @property
    def done(self) -> bool:
        """Whether the audio is complete."""
        return self._place >= self.frames

    @property
    def left(self) -> int:
        """How many steps it will take."""
        return self._codec.steps(self.frames - self._place)

    @property
    def needed(self) -> int:
        """How many frames, from the first one, must be there before the next step."""
        return min(self._end + self._codec.margin + self._reach, self.frames)

    @property
    def _end(self) -> int:
        return min(self._place + self._codec.chunk, self.frames)

    def step(self) -> None:
        """Decode the next frames; a step that fails may be repeated."""
        codec, start, end = self._codec, self._place, self._end
        left, right = max(0, start - codec.margin), min(self.frames, end + codec.margin)
        values = self._listen(right)[..., left - self._kept :]
        for layer in self._rest:
            values = layer(values)
        kept = values[:, 0, (start - left) * codec.hop : (end - left) * codec.hop]
        self._audio[:, start * codec.hop : end * codec.hop] = kept.float().cpu().numpy()
        self._place = end

    def _listen(self, end: int) -> torch.Tensor:
        """Let the LSTM go on to frame ``end``, and return what it said of the latest frames, the margin included."""
        if self._said is not None and end <= self._heard:
            return self._said
        new = self._states(self._heard, end).permute(2, 0, 1)
        told, memory = self._lstm(new, self._memory)
        said = (told + new).permute(1, 2, 0)
        if self._said is not None:
            margin = self._said[..., max(0, self._place - self._codec.margin) - self._kept :]
            self._kept = self._heard - margin.shape[-1]
            said = torch.cat([margin, said], dim=-1)
        self._said, self._memory, self._heard = said, memory, end
        heard: torch.Tensor = said
        return heard

    def _states(self, start: int, end: int) -> torch.Tensor:
        """What the LSTM hears of some frames, (channels, width, frames)."""
        left, right = max(0, start - self._reach), min(self.frames, end + self._reach)
        codes = self._codes[:, left:right].reshape(-1, self._codec.channels, right - left)
        states = self._first(self._quantizer.decode(codes.to(self._codec.device)))
        heard: torch.Tensor = states[..., start - left : end - left]
        return heard


def _settle(model: Any) -> None:
    """Compute the weights from norm and direction once, and let the sizes of paddings be known without the device."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
        for name in ("stride", "kernel_size", "padding_total"):
            if isinstance(size := getattr(module, name, None), torch.Tensor):
                setattr(module, name, size.cpu())


def _margin(config: Any) -> int:
    """Return how many frames to each side the convolutions after the LSTM hear, at most."""
    dilations = sum(config.dilation_growth_rate**j for j in range(config.num_residual_layers))
    reach = config.last_kernel_size - 1
    for ratio in reversed(config.upsampling_ratios):
        reach += (config.residual_kernel_size - 1) * dilations
        reach = math.ceil(reach / ratio) + 1
    return int(reach)


def check(config: Any, path: object) -> None:
    """Raise MODEL_LOAD_FAILED for an EnCodec that cannot be decoded in steps; no published MusicGen has one."""
    wanted = {"norm_type": "weight_norm", "normalize": False, "chunk_length_s": None, "audio_channels": 1}
    for name, value in wanted.items():
        if (found := getattr(config, name, None)) != value:
            raise error(
                ErrorCode.MODEL_LOAD_FAILED,
                f"the audio encoder in {path} has {name} {found}; MusicGen's have {value}",
                "Use a published MusicGen checkpoint.",
            )
