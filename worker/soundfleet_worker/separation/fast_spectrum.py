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
    """Return waves, (batch, channels, length), of (batch, frequencies, time, 2 * channels)."""
    batch, frequencies, frames, channels = *parts.shape[:3], parts.shape[3] // 2
    hop = size // OVERLAPS
    out = torch.zeros(batch, frames + OVERLAPS - 1, channels, hop)
    for item in range(batch):
        plane = parts[item].float().mul_(deviation[item]).add_(mean[item])
        bins = torch.view_as_complex(plane.view(frequencies, frames * channels, 2)).t().contiguous()
        waves = torch.fft.irfft(bins, n=size, norm="ortho").view(frames, channels, OVERLAPS, hop)
        waves *= _window(size).view(OVERLAPS, hop)
        for part in range(OVERLAPS):
            out[item, part : part + frames] += waves[:, :, part]
    out /= _envelope(size, frames)[:, None]
    first = hop // 2 * 3
    return out.transpose(1, 2).reshape(batch, channels, -1)[..., first : first + length]
