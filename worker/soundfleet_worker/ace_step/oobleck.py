"""The VAE's two stacks of convolutions, made ready for inference in their place.

diffusers' ``AutoencoderOobleck`` keeps channels before samples. Kernels for half-width floats want channels last, and
turn every tensor round, there and back; they also take no one-dimensional convolutions, so a dimension of one row is
added. Both are done once here, at the ends of a stack. Weight normalisation is folded into the weights, and what the
activations compute of their parameters is computed once.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import Snake1d
from torch import nn


class Snake(nn.Module):
    """x + sin^2(alpha x) / beta, per channel.

    L. Ziyin, T. Hartwig and M. Ueda, "Neural Networks Fail to Learn Periodic Functions and How to Fix It", 2020
    (arXiv:2006.08195), with a beta of its own.
    """

    alpha: torch.Tensor
    share: torch.Tensor
    """1 / beta."""

    def __init__(self, other: Snake1d) -> None:
        super().__init__()
        alpha, beta = (p.detach().exp() if other.logscale else p.detach() for p in (other.alpha, other.beta))
        self.register_buffer("alpha", alpha[:, :, None])
        self.register_buffer("share", (beta + 1e-9).reciprocal()[:, :, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` is (n, channels, 1, length)."""
        return torch.addcmul(x, (x * self.alpha).sin_().square_(), self.share)


def ready(vae: Any) -> Any:
    """Make both stacks of a VAE in float32 ready; they take and give what they did, (n, channels, length)."""
    for stack in (vae.encoder, vae.decoder):
        for parent in tuple(stack.modules()):
            for name, child in tuple(parent.named_children()):
                if isinstance(child, Snake1d):
                    setattr(parent, name, Snake(child))
                elif isinstance(child, nn.Conv1d | nn.ConvTranspose1d):
                    setattr(parent, name, _flat(folded(child)))
        stack.register_forward_pre_hook(_enter)
        stack.register_forward_hook(_leave)
    return vae


def folded(module: Any) -> Any:
    """Fold weight normalisation into the weights of a module and all in it: else it is computed at every call."""
    from torch.nn.utils import remove_weight_norm

    for part in module.modules():
        if hasattr(part, "weight_g"):
            remove_weight_norm(part)
    return module


def _flat(conv: nn.Conv1d | nn.ConvTranspose1d) -> nn.Conv2d | nn.ConvTranspose2d:
    """Return the same convolution over one row of samples."""
    kind = nn.ConvTranspose2d if isinstance(conv, nn.ConvTranspose1d) else nn.Conv2d
    flat = kind(
        conv.in_channels,
        conv.out_channels,
        (1, conv.kernel_size[0]),
        stride=(1, conv.stride[0]),
        padding=(0, int(conv.padding[0])),
        dilation=(1, conv.dilation[0]),
        bias=conv.bias is not None,
        device="meta",
    )
    weight = conv.weight.detach()[:, :, None].contiguous(memory_format=torch.channels_last)
    flat.weight = nn.Parameter(weight, requires_grad=False)
    flat.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach(), requires_grad=False)
    return flat


def _enter(_stack: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0][:, :, None].contiguous(memory_format=torch.channels_last),)


def _leave(_stack: Any, _inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    return output[:, :, 0]
