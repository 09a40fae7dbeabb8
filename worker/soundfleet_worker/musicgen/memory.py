"""How much memory a model and its runs take: predictions, on the safe side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cache import GUIDED
from .windows import WINDOW_SEC

if TYPE_CHECKING:
    from .codec import Codec
    from .loading import Checkpoint
    from .slots import Slots
    from .studio import Studio

FLOAT32 = 4
OF_THE_CODEC = 4
"""Tensors of (samples, filters) that are alive at the codec's end, where they are largest."""
OF_A_LAYER = 3
"""Tensors of (rows, inner width) that are alive in a layer of the decoder."""
INNER = 4
"""The inner width, in widths."""


def room_for(slots: Slots, wanted: int) -> int:
    """Return how many slots fit half of the memory that a GPU has free; on a CPU it is taken as it is used."""
    if slots.device.type == "cuda":
        import torch

        free = torch.cuda.mem_get_info(slots.device)[0]
        while wanted > 1 and slots.nbytes(wanted) > free // 2:
            wanted //= 2
    return wanted


def model_bytes(checkpoint: Checkpoint, studio: Studio, slots: int) -> int:
    """Weights, caches, and the largest launch."""
    weights = checkpoint.weights
    filled = GUIDED * max(studio.pace.fill, slots) * weights.width * INNER * OF_A_LAYER * FLOAT32
    logits = 6 * slots * weights.codebooks * weights.vocabulary * FLOAT32
    launch = max(filled + logits, _sounded(checkpoint.codec) * studio.pace.others)
    return weights.nbytes + checkpoint.other_bytes + studio.slots.nbytes(slots) + launch


def _sounded(codec: Codec) -> int:
    """What one step of the codec needs."""
    samples = (codec.chunk + 2 * codec.margin) * codec.hop
    return codec.channels * samples * codec.filters * OF_THE_CODEC * FLOAT32


def run_bytes(codec: Codec, duration_sec: float) -> int:
    """The audio, twice for what numpy copies, and what the codec keeps of a source while it hears it."""
    frames = round(duration_sec * codec.frame_rate)
    heard = min(frames, WINDOW_SEC * codec.frame_rate)
    return int(codec.channels * (frames * 2 * codec.hop + heard * 3 * codec.width) * FLOAT32)
