"""The audio that a run is given, on its way into latents: source and reference, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from soundfleet_schemas import ErrorCode, error

from .parts import TIMBRE_SEC
from .tiles import Tile, encode, sample, tiles_of

if TYPE_CHECKING:
    import numpy as np
    import torch

    from .parts import Parts


@dataclass(slots=True)
class Recording:
    """One piece of audio: (2, samples) of whole frames, what the encoder has said of it so far, and its noise."""

    audio: torch.Tensor
    tiles: Sequence[Tile]
    noise: torch.Tensor
    said: list[torch.Tensor] = field(default_factory=list)

    @property
    def encoded(self) -> bool:
        return len(self.said) == len(self.tiles)

    def encode_next(self, parts: Parts) -> None:
        """Encode one tile."""
        self.said.append(encode(parts.vae, self.audio, self.tiles[len(self.said)], parts.hop))

    def latents(self) -> torch.Tensor:
        """Return the latents, (frames, channels); the same at every call."""
        import torch

        return sample(torch.cat(self.said, dim=1), self.noise)


def open_audio(path: Path) -> np.ndarray:
    """Map a decoded file, float32 (2, samples); AUDIO_EMPTY when it holds none."""
    import numpy as np

    audio: np.ndarray = np.load(path, mmap_mode="r")
    if audio.shape[-1] == 0:
        raise error(ErrorCode.AUDIO_EMPTY, "the source or the reference holds no audio")
    return audio


def source_audio(audio: np.ndarray, samples: int, parts: Parts, frames: int) -> torch.Tensor:
    """Return the first samples of a source, followed by silence up to whole frames."""
    import numpy as np
    import torch

    whole = np.zeros((2, frames * parts.hop), dtype=np.float32)
    whole[:, :samples] = audio[:, :samples]
    return torch.from_numpy(whole)


def reference_audio(audio: np.ndarray, parts: Parts) -> torch.Tensor:
    """Return what the timbre encoder hears of a reference: a third each from its front, its middle and its back.

    A shorter one is repeated.
    """
    import numpy as np
    import torch

    third, wanted = TIMBRE_SEC // 3 * parts.sample_rate, TIMBRE_SEC * parts.sample_rate
    if audio.shape[-1] < wanted:
        audio = np.tile(audio, (1, -(-wanted // audio.shape[-1])))
    samples = audio.shape[-1]
    parts_of_it = [audio[:, start : start + third] for start in (0, samples // 3, samples - third)]
    return torch.from_numpy(np.concatenate(parts_of_it, axis=1, dtype=np.float32))


def recording_of(audio: torch.Tensor, parts: Parts, core: int, reach: int, generator: torch.Generator) -> Recording:
    """Lay out the tiles and draw the noise."""
    import torch

    frames = audio.shape[-1] // parts.hop
    noise = torch.randn((parts.channels, frames), generator=generator)
    return Recording(audio, tiles_of(frames, core, reach), noise)
