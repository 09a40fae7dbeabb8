"""From waves to what HTDemucs' spectral branch sees, and from what it says to waves."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from demucs.hdemucs import pad1d
from torch import Tensor

TINY = 1e-20
"""Keeps the spectrum of silence from being divided by zero."""
OVERLAPS = 4
"""Every sample lies in so many frames."""
AT_ONCE = 16
"""Frames that are worked on together."""
_PAIRS = {2: torch.int32, 4: torch.int64}
"""Integers as wide as a real and an imaginary part: transposed as one."""


@lru_cache(maxsize=8)
def _window(size: int) -> Tensor:
    return torch.hann_window(size)


@lru_cache(maxsize=8)
def _envelope(size: int, frames: int) -> Tensor:
    """Return by what the sum of overlapping frames is too large, (frames + 3, hop)."""
    total = torch.zeros(frames + 2 * OVERLAPS - 1, size // OVERLAPS)
    squares = (_window(size) ** 2).view(OVERLAPS, -1)
    for part in range(OVERLAPS):
        total[part : part + frames + OVERLAPS] += squares[part]
    return total[OVERLAPS // 2 : -OVERLAPS // 2]


@lru_cache(maxsize=8)
def _ripple(size: int, frames: int) -> Tensor:
    """Return what a spectrum that is 1 + 1j everywhere sounds like, (frames + 3, hop)."""
    bins = torch.ones(size // 2 + 1, 2)
    bins[-1] = 0.0
    wave = torch.fft.irfft(torch.view_as_complex(bins), n=size, norm="ortho") * _window(size)
    total = torch.zeros(frames + OVERLAPS - 1, size // OVERLAPS)
    for part, piece in enumerate(wave.view(OVERLAPS, -1)):
        total[part : part + frames] += piece
    return total / _envelope(size, frames)


def analyse(mix: Tensor, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the normalised spectrum (batch, frequencies, time, 2 * channels), and its mean and deviation.

    ``mix`` is (batch, channels, samples). Real and imaginary parts are channels of their own.
    """
    hop, length = size // OVERLAPS, mix.shape[-1]
    frames, margin = math.ceil(length / hop), hop // 2 * 3
    padded = pad1d(mix, (margin, margin + frames * hop - length), mode="reflect")
    waves = padded.unfold(-1, size, hop) * _window(size)
    spectrum = torch.fft.rfft(waves, norm="ortho")[..., :-1].transpose(2, 3)
    parts, mean, deviation = normalise(torch.view_as_real(torch.stack(spectrum.unbind(1), -1)).flatten(3))
    return parts.to(dtype), mean, deviation


def normalise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``(x - mean) / (1e-5 + deviation)`` of each item of a batch, mean and deviation.

    LayerNorm's kernel finds them many times as fast as ``torch.std_mean``, which walks one number at a time.
    """
    whole = x.shape[1:]
    out, mean, rate = torch.native_layer_norm(x, whole, None, None, TINY)
    biased = (rate**-2 - TINY).clamp_min_(0.0).sqrt_()  # over n; Demucs takes the deviation over n - 1
    deviation = biased * math.sqrt(whole.numel() / (whole.numel() - 1))
    return out.mul_(biased / (1e-5 + deviation)), mean, deviation


def synthesise(parts: Tensor, mean: Tensor, deviation: Tensor, size: int, length: int) -> Tensor:
    """Return waves, (batch, channels, length), of (batch, frequencies, time, 2 * channels).

    A few frames at a time: they stay in the cache from the transform to the sum.
    """
    batch, frequencies, frames, channels = *parts.shape[:3], parts.shape[3] // 2
    hop = size // OVERLAPS
    window = _window(size).view(OVERLAPS, hop)
    pairs = parts.contiguous().view(_PAIRS[parts.dtype.itemsize])
    out = torch.zeros(batch, frames + OVERLAPS - 1, channels, hop)
    bins = torch.zeros(min(AT_ONCE, frames) * channels, frequencies + 1, 2)  # the highest frequency stays zero
    for item in range(batch):
        spectra = pairs[item].flatten(1).t().contiguous().view(parts.dtype)
        for first in range(0, frames, AT_ONCE):
            some = spectra[first * channels : (first + AT_ONCE) * channels]
            rows = bins[: len(some)]
            rows.flatten(1)[:, : 2 * frequencies] = some
            waves = torch.fft.irfft(torch.view_as_complex(rows), n=size, norm="ortho")
            waves = waves.view(-1, channels, OVERLAPS, hop)
            for part in range(OVERLAPS):
                begin = first + part
                out[item, begin : begin + len(waves)].addcmul_(waves[:, :, part], window[part])
        level, offset = deviation[item].flatten(), mean[item].flatten()
        out[item].mul_((level / _envelope(size, frames))[:, None]).add_((offset * _ripple(size, frames))[:, None])
    first = hop // 2 * 3
    return out.transpose(1, 2).reshape(batch, channels, -1)[..., first : first + length]
