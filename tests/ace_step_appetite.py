"""How much memory a song takes, in a process of its own: ``python -m tests.ace_step_appetite SECONDS TILE``.

Prints what was predicted for a launch and for a run, and by how much the process grew, in bytes. The model is small in
layers and as wide as needed for its tensors to outweigh everything else.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from soundfleet_worker.engine.devices import tune

tune(1)

import torch  # noqa: E402
from diffusers import AceStepTransformer1DModel, AutoencoderOobleck  # noqa: E402
from diffusers.pipelines.ace_step import AceStepConditionEncoder  # noqa: E402

from soundfleet_worker.ace_step.launches import Sizes  # noqa: E402
from soundfleet_worker.ace_step.oobleck import ready  # noqa: E402
from soundfleet_worker.ace_step.parts import Parts  # noqa: E402
from soundfleet_worker.ace_step.song import Phase, Song  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepModel  # noqa: E402
from tests.ace_step_checkpoint import job_of, spec_of, text_encoder, tokenizer  # noqa: E402

VERSION = "acestep-v15-base"
WIDTHS: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
}


def parts() -> Parts:
    """Random modules, guided, in float32."""
    transformer = AceStepTransformer1DModel(num_hidden_layers=2, is_turbo=False, model_version="base", **WIDTHS)
    encoder = AceStepConditionEncoder(
        text_hidden_dim=16, num_lyric_encoder_hidden_layers=1, num_timbre_encoder_hidden_layers=1, **WIDTHS
    )
    vae = AutoencoderOobleck(
        encoder_hidden_size=128,
        decoder_channels=128,
        channel_multiples=[1, 1, 1, 1, 1],
        downsampling_ratios=[2, 4, 4, 6, 10],
        sampling_rate=48_000,
    )
    modules = [module.eval() for module in (transformer, encoder, ready(vae), text_encoder())]
    return Parts(*modules, None, None, tokenizer(), torch.device("cpu"), torch.float32)


def resident(what: str) -> int:
    """Return ``VmRSS``, or ``VmHWM``: the most since it was asked to begin anew."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


def main() -> None:
    """Play a song of one step until two of its tiles are decoded."""
    seconds, tile = (int(word) for word in sys.argv[1:])
    spec = spec_of(VERSION)
    model = AceStepModel(spec, parts(), None, Sizes(0, 1, 1, tile))
    with tempfile.TemporaryDirectory() as scratch:
        job = job_of(spec, Path(scratch), duration_sec=seconds, inference_steps=1, lyrics="song " * 1000)
        predicted = {"launch": model.memory_bytes - model._weight_bytes, "run": model.memory_of(job)}
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        run = model.begin(job)
        assert isinstance(run, Song)
        model.step([run])
        denoised = resident("VmHWM") - before
        assert run.phase is Phase.decode
        for _ in range(2):
            model.step([run])
        grown = {"denoised": denoised, "decoded": resident("VmHWM") - before}
        sys.stdout.write(json.dumps(predicted | grown) + "\n")


if __name__ == "__main__":
    main()
