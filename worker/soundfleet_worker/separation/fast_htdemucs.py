"""HTDemucs for inference: what ``demucs.htdemucs.HTDemucs.forward`` computes, in fewer and narrower passes.

Demucs lays channels out first, computes in float32, and passes over its largest tensors for every normalisation,
gate, scale and sum. Here channels lie last, as oneDNN wants them; gates are applied while a product is still in the
cache; normalisations and scales go into weights where that is exact; and products may be in bfloat16. Spectra,
statistics and the sum of the two branches stay in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from demucs.hdemucs import HDecLayer, HEncLayer
from demucs.htdemucs import HTDemucs
from demucs.transformer import CrossTransformerEncoderLayer, MyTransformerEncoderLayer
from torch import Tensor, nn
from torch.nn import functional

from .fast_layers import Decoder, Encoder
from .fast_spectrum import OVERLAPS, analyse, normalise, synthesise
from .fast_transformer import Transformer


def is_known(model: Any) -> bool:
    """Whether a model is of the shape that is written out here: every published HTDemucs is."""
    return (
        type(model) is HTDemucs
        and model.cac
        and model.use_train_segment
        and model.hop_length * OVERLAPS == model.nfft
        and len(model.tencoder) == len(model.encoder)
        and all(type(layer) is HEncLayer and _is_plain(layer) for layer in (*model.encoder, *model.tencoder))
        and all(type(layer) is HDecLayer and _is_plain(layer) for layer in (*model.decoder, *model.tdecoder))
        and _is_usual(model.crosstransformer)
    )


def _is_plain(layer: Any) -> bool:
    return (
        not layer.empty
        and not layer.norm
        and bool(layer.pad)
        and layer.rewrite is not None
        and (layer.dconv is None or all(len(part) == 7 for part in layer.dconv.layers))
    )


def _is_usual(transformer: Any) -> bool:
    return (
        transformer is not None
        and transformer.emb == "sin"
        and transformer.sin_random_shift == 0
        and type(transformer.norm_in) is nn.LayerNorm
        and all(
            isinstance(layer, MyTransformerEncoderLayer | CrossTransformerEncoderLayer)
            and layer.norm_first
            and not layer.sparse
            and layer.activation is functional.gelu
            and type(layer.norm1) is nn.LayerNorm
            and (layer.norm_out is None or layer.norm_out.num_groups == 1)
            for layer in (*transformer.layers, *transformer.layers_t)
        )
    )


class FastHTDemucs:
    """A known HTDemucs on a CPU; keeps no reference to the module that it was made of."""

    def __init__(self, model: HTDemucs, dtype: torch.dtype) -> None:
        self.length = int(model.segment * model.samplerate)
        self._dtype = dtype
        self._size, self._sources = model.nfft, len(model.sources)
        self._layers = [[Encoder(layer, dtype) for layer in part] for part in (model.encoder, model.tencoder)]
        self._back = [[Decoder(layer, dtype) for layer in part] for part in (model.decoder, model.tdecoder)]
        self._transformer = Transformer(model, dtype)
        embedding = model.freq_emb
        self._embedding: Tensor | None = None
        if embedding is not None:
            self._embedding = (embedding.weight.detach() * model.freq_emb_scale)[None, :, None].to(dtype)

    def __call__(self, mix: Tensor) -> Tensor:
        """Separate (batch, 2, samples), at most one segment long, to float32 (batch, sources, 2, samples)."""
        batch, channels, samples = mix.shape
        mix = functional.pad(mix, (0, self.length - samples))
        x, mean, deviation = analyse(mix, self._size, self._dtype)
        xt, mean_t, deviation_t = normalise(mix)
        xt = xt.to(self._dtype).transpose(1, 2).contiguous()[:, None]
        x, xt = self._through(x, xt)
        waves = synthesise(x, mean, deviation, self._size, self.length)
        waves += xt[:, 0].float().mul_(deviation_t).add_(mean_t).transpose(1, 2)
        return waves.view(batch, self._sources, channels, self.length)[..., :samples]

    def _through(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Pass both branches through the network."""
        saved: list[tuple[Tensor, Tensor]] = []
        lengths: list[tuple[int, int]] = []
        for index, (encode, encode_t) in enumerate(zip(*self._layers, strict=True)):
            lengths.append((x.shape[2], xt.shape[2]))
            x, xt = encode(x), encode_t(xt)
            if index == 0 and self._embedding is not None:
                x += self._embedding
            saved.append((x, xt))
        x, xt = self._transformer(x, xt)
        for decode, decode_t in zip(*self._back, strict=True):
            (skip, skip_t), (time, time_t) = saved.pop(), lengths.pop()
            x, xt = decode(x, skip, time), decode_t(xt, skip_t, time_t)
        return x, xt
