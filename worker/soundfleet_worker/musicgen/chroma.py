"""The melody of a recording as the melody models hear it: per 4096 samples the strongest pitch class, and it alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .windows import WINDOW_SEC

N_FFT = 16_384
HOP = 4_096


def repeated(reference: np.ndarray, rate: int, start_sec: float) -> np.ndarray:
    """Return one window of a reference (channels, samples) as mono, from ``start_sec`` on, begun again at its end."""
    places = np.arange(WINDOW_SEC * rate, dtype=np.int64) + round(start_sec * rate)
    return np.asarray(reference[:, places % reference.shape[1]].mean(axis=0), dtype=np.float32)


def chromagram(audio: torch.Tensor, rate: int, bins: int) -> torch.Tensor:
    """Return (frames, bins) of mono audio (samples), at least N_FFT of them: 1 for the strongest class, else 0."""
    from transformers.audio_utils import chroma_filter_bank

    bank: Any = chroma_filter_bank(num_frequency_bins=N_FFT, num_chroma=bins, sampling_rate=rate, tuning=0.0)
    spectrum = torch.stft(audio, N_FFT, HOP, window=torch.hann_window(N_FFT), return_complex=True).abs() ** 2
    strength = torch.from_numpy(bank).float() @ spectrum
    return torch.nn.functional.one_hot(strength.argmax(dim=0), bins).float()
