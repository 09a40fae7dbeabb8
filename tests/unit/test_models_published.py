"""Which models are on a hub, which of their files are needed, and whether this machine could have them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

pytest.importorskip("torch", reason="needs the worker extra")

from soundfleet_schemas import CATALOG, BackendType
from soundfleet_worker.backends.contract import ModelConfig
from soundfleet_worker.models import PUBLISHED, obtainable
from soundfleet_worker.models.published import on_hub

CONFIG = ModelConfig()


def test_every_demucs_model_but_the_packaged_one_is_on_the_hub() -> None:
    """Under the names that Demucs itself asks for."""
    demucs = pytest.importorskip("demucs.hf")
    ours = {name: model.repository for name, model in PUBLISHED.items() if CATALOG[name].type == BackendType.Demucs}
    names = [name for name, spec in CATALOG.items() if spec.type == BackendType.Demucs and name != "htdemucs_mini"]
    assert ours == {name: f"{demucs.DEFAULT_NAMESPACE}/{demucs.hf_repo_name(name)}" for name in names}


def test_what_can_be_obtained_depends_on_the_setting_and_the_libraries(tmp_path: Path) -> None:
    """Without a library the files would be of no use; a directory that is none is a mistake to be mended."""
    assert obtainable("htdemucs", CONFIG)
    assert obtainable("htdemucs", ModelConfig(tmp_path))
    assert not obtainable("htdemucs", ModelConfig(tmp_path / "nowhere"))
    assert not obtainable("htdemucs", ModelConfig(offline=True))
    assert not obtainable("htdemucs_mini", CONFIG)


MUSICGEN = ("README.md", "config.json", "generation_config.json", "model-00001-of-00002.safetensors")
MUSICGEN += ("model-00002-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "spiece.model")
MUSICGEN += ("state_dict.bin", "tokenizer.json")
PARTS = ("transformer", "condition_encoder", "vae", "text_encoder")
ACE_STEP = ("model_index.json", "tokenizer/tokenizer.json", "tokenizer/merges.txt", "audio_tokenizer/config.json")
ACE_STEP += ("audio_tokenizer/model.safetensors", *(f"{part}/config.json" for part in PARTS))
ACE_STEP += tuple(f"{part}/diffusion_pytorch_model.safetensors" for part in PARTS)


@pytest.mark.parametrize(
    ("backend", "paths", "unwanted", "needed"),
    [
        ("musicgen", MUSICGEN, {"README.md", "pytorch_model.bin", "state_dict.bin"}, "config.json"),
        ("ace_step", (*ACE_STEP, "silence.pt", "assets/a.png"), {"silence.pt", "assets/a.png"}, "vae/config.json"),
    ],
)
def test_each_family_takes_what_its_loader_reads(
    backend: str, paths: tuple[str, ...], unwanted: set[str], needed: str
) -> None:
    """Configurations, tokenizers and safetensors; no pickles."""
    model = on_hub(msgspec.structs.replace(CATALOG[backend], repository="owner/name"))
    assert model is not None
    assert set(model.wanted(paths)) == set(paths) - unwanted
    assert model.lacks(paths) == []
    assert model.lacks(set(paths) - {needed})
