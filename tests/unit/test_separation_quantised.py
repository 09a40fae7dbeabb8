"""Quantised models need diffq, and say so; with it they load from both layouts."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.demucs_checkpoint import network, write_quantised, write_quantised_safetensors, write_safetensors

torch = pytest.importorskip("torch", reason="needs the worker extra")
from safetensors.torch import save_file  # noqa: E402

from soundfleet_schemas import CATALOG, BackendStatus, ErrorCode, SoundfleetError  # noqa: E402
from soundfleet_worker.backends.contract import ModelConfig  # noqa: E402
from soundfleet_worker.backends.demucs import DemucsFactory  # noqa: E402
from soundfleet_worker.models import obtainable  # noqa: E402
from soundfleet_worker.separation.loading import CLASSES, load  # noqa: E402

MODEL = CATALOG["mdx_extra_q"]


@pytest.mark.skipif(importlib.util.find_spec("diffq") is not None, reason="diffq is installed")
def test_quantised_models_name_the_library_that_they_need() -> None:
    """Demucs itself would exit the process."""
    status, reason = DemucsFactory(MODEL, ModelConfig()).status()
    assert status is BackendStatus.NotInstalled
    assert reason == "quantised models need diffq: pip install 'soundfleet[diffq]'"
    with pytest.raises(SoundfleetError, match="diffq") as caught:
        load(MODEL, ModelConfig())
    assert caught.value.code == ErrorCode.BACKEND_NOT_READY
    assert not obtainable("mdx_extra_q", ModelConfig())


def test_a_quantised_file_names_only_classes_of_diffq(tmp_path: Path) -> None:
    """The loader would import and call whatever it names."""
    path = write_safetensors(tmp_path / "models", network())
    structure = {"_dict": [["meta", {"_dict": [["klass", {"_class": "subprocess.Popen"}]]}]]}
    kwargs = json.dumps(network()._init_args_kwargs[1])
    metadata = {"klass": CLASSES[0], "args": "[]", "kwargs": kwargs, "structure": json.dumps(structure)}
    save_file(dict(network().state_dict()), path, metadata)
    with pytest.raises(SoundfleetError, match=r"quantised by subprocess\.Popen") as caught:
        load(CATALOG["htdemucs"], ModelConfig(tmp_path / "models"))
    assert caught.value.code == ErrorCode.MODEL_LOAD_FAILED


@pytest.mark.skipif(importlib.util.find_spec("diffq") is None, reason="needs the diffq extra")
@pytest.mark.parametrize("write", [write_quantised, write_quantised_safetensors])
def test_a_quantised_model_loads(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """With the library that has packed it."""
    source = ModelConfig(write(tmp_path / "models"))
    assert DemucsFactory(MODEL, source).status() == (BackendStatus.Ready, None)
    bag, weights = load(MODEL, source)
    assert [name.partition("-")[0] for name in weights] == ["83fc094f"]
    assert all(torch.isfinite(parameter).all() for parameter in bag.models[0].parameters())
    assert bag.models[0].state_dict()["encoder.0.conv.weight"].std() > 0.01
