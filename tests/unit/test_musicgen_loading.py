"""A checkpoint is loaded from the layout in which it is published, and refused when anything of it is wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
from safetensors.torch import load_file, save_file  # noqa: E402
from tests.musicgen_checkpoint import NAME, job_of, load_model, play, samples_of, save_checkpoint, spec_of  # noqa: E402

from soundfleet_schemas import BackendStatus, ErrorCode, Precision, SoundfleetError  # noqa: E402
from soundfleet_worker.backends.contract import ModelConfig  # noqa: E402
from soundfleet_worker.backends.musicgen import MusicGenFactory, MusicGenModel  # noqa: E402
from soundfleet_worker.musicgen import files  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models with one whole checkpoint."""
    directory = tmp_path_factory.mktemp("models")
    save_checkpoint(directory / NAME)
    return directory


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint, its tensors spread over several files as the large ones' are."""
    directory = tmp_path_factory.mktemp("models")
    save_checkpoint(directory / NAME, max_shard_size="60KB")
    return directory


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage: its directory of models."""
    shutil.copytree(published / NAME, tmp_path / "models" / NAME)
    return tmp_path / "models"


def sound(directory: Path, tmp_path: Path) -> np.ndarray:
    """What the checkpoint of a directory makes of one job."""
    (output,) = play(load_model(directory), [job_of(tmp_path, seconds=5, seed=2)])
    return samples_of(output)


def refused(directory: Path) -> SoundfleetError:
    """Why a checkpoint cannot be loaded; its status promises that it is there."""
    factory = MusicGenFactory(spec_of(), ModelConfig(model_dir=directory))
    assert factory.status() == (BackendStatus.Ready, None)
    with pytest.raises(SoundfleetError) as caught:
        factory.load("cpu", lambda _status, _percent: None)
    assert caught.value.code is ErrorCode.MODEL_LOAD_FAILED
    assert "soundfleet backends pull musicgen" in caught.value.info.action
    assert not caught.value.info.retryable
    return caught.value


def test_a_checkpoint_in_several_files_is_the_same_checkpoint(published: Path, sharded: Path, tmp_path: Path) -> None:
    """The index names the files; the result names all of them with their checksums."""
    assert len(files.shards_of(sharded / NAME)) > 2
    assert np.array_equal(sound(published, tmp_path), sound(sharded, tmp_path))
    assert len(files.weights_of(sharded / NAME)) == len(files.shards_of(sharded / NAME))


def test_weights_of_the_older_names_are_read(copied: Path, published: Path, tmp_path: Path) -> None:
    """The published files call the codec's normed weights weight_g and weight_v."""
    path = copied / NAME / files.WEIGHTS
    tensors = load_file(path)
    renamed = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in tensors.items()
    }
    assert set(renamed) != set(tensors)
    save_file(renamed, path, {"format": "pt"})
    assert np.array_equal(sound(copied, tmp_path), sound(published, tmp_path))


def test_a_checkpoint_in_the_hubs_cache_is_found(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the operator's directory; a blob that is named by its hash is not read to name the weights."""
    digest = "ab" * 32
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    shutil.copytree(published / NAME, folder)
    (folder / files.WEIGHTS).rename(blobs / digest)
    (folder / files.WEIGHTS).symlink_to(blobs / digest)
    monkeypatch.setattr(files, "snapshot", lambda name: folder if name == "musicgen" else None)
    assert files.find(spec_of(), ModelConfig()) == folder
    assert files.find(spec_of(), ModelConfig(model_dir=published)) == published / NAME
    assert files.weights_of(folder) == ("model-abababab",)
    model = MusicGenFactory(spec_of(), ModelConfig(offline=True)).load("cpu", lambda _status, _percent: None)
    assert isinstance(model, MusicGenModel)


def test_a_checkpoint_that_is_not_here_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status says how to get it, and loading asks nobody."""
    monkeypatch.setattr(files, "snapshot", lambda _name: None)
    factory = MusicGenFactory(spec_of(), ModelConfig(model_dir=tmp_path))
    status, why = factory.status()
    assert status is BackendStatus.NotInstalled
    assert why is not None
    assert "soundfleet backends pull musicgen" in why
    assert f"the folder {NAME}" in why
    with pytest.raises(SoundfleetError, match="BACKEND_NOT_READY"):
        factory.load("cpu", lambda _status, _percent: None)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_component_is_named(copied: Path, name: str) -> None:
    """Each file without which nothing can be decoded."""
    (copied / NAME / name).unlink()
    assert name in str(refused(copied))


def test_a_missing_shard_is_named(sharded: Path, tmp_path: Path) -> None:
    """The index promises it."""
    shutil.copytree(sharded / NAME, tmp_path / NAME)
    shard = files.shards_of(tmp_path / NAME)[1]
    (tmp_path / NAME / shard).unlink()
    assert shard in str(refused(tmp_path))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _scribble(path: Path) -> None:
    path.write_bytes(b"\x00" * 4096)


def _drop_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors["decoder.lm_heads.2.weight"]
    save_file(tensors, path, {"format": "pt"})


def _reshape_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    tensors["decoder.lm_heads.2.weight"] = tensors["decoder.lm_heads.2.weight"][:-1].contiguous()
    save_file(tensors, path, {"format": "pt"})


@pytest.mark.parametrize("damage", [_cut, _scribble, _drop_a_tensor, _reshape_a_tensor])
def test_corrupt_weights_are_refused(copied: Path, damage: Callable[[Path], None]) -> None:
    """Transformers would fill a gap with random numbers, and decode noise."""
    damage(copied / NAME / files.WEIGHTS)
    refused(copied)


@pytest.mark.parametrize(
    "said", ["[enforce fail at alloc_cpu.cpp] not enough memory", "CUDA error: an illegal memory access"]
)
def test_what_is_wrong_with_the_machine_is_not_the_files_fault(
    published: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """The engine judges it: other jobs and other workers can do better."""

    def broken(*_args: object, **_how: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr("transformers.MusicgenForConditionalGeneration.from_pretrained", broken)
    with pytest.raises(RuntimeError, match=re.escape(said)):
        MusicGenFactory(spec_of(), ModelConfig(model_dir=published)).load("cpu", lambda _status, _percent: None)


def test_a_corrupt_tokenizer_is_refused(copied: Path) -> None:
    """It is read with the weights, not with the first prompt."""
    _cut(copied / NAME / "tokenizer.json")
    refused(copied)


def test_another_architecture_is_refused(copied: Path) -> None:
    """Whatever lies in the folder must be of the family."""
    path = copied / NAME / "config.json"
    path.write_text(json.dumps({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}))
    assert "it is a t5, not a musicgen" in str(refused(copied))


@pytest.mark.parametrize(
    ("differs", "why"),
    [
        ({"inputs": ("source", "reference")}, "it is a musicgen, which follows no melody"),
        ({"model_version": "musicgen-stereo-small", "channels": 2}, "it is mono"),
    ],
)
def test_another_member_of_the_family_is_refused(copied: Path, differs: dict[str, Any], why: str) -> None:
    """The catalogue promises what it can do, before it is loaded."""
    spec = spec_of(**differs)
    if spec.model_version != NAME:
        (copied / NAME).rename(copied / spec.model_version)
    with pytest.raises(SoundfleetError, match=f"MODEL_LOAD_FAILED: .* {why}"):
        MusicGenFactory(spec, ModelConfig(model_dir=copied)).load("cpu", lambda _status, _percent: None)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"stereo": True}, "it is stereo"),
        ({"melody": True}, "it is a musicgen_melody, which follows a melody"),
        ({"stereo": True, "melody": True}, "it is a musicgen_melody, which follows a melody"),
    ],
)
def test_a_checkpoint_that_can_more_is_refused_too(tmp_path: Path, how: dict[str, bool], why: str) -> None:
    """Its tracks would be called those of another model, and answer for them."""
    save_checkpoint(tmp_path / NAME, **how)
    said = refused(tmp_path)
    assert why in str(said)
    assert said.info.action == f"Replace them by those of {NAME}: soundfleet backends pull musicgen."


@pytest.mark.parametrize(
    ("version", "width", "size"),
    [
        ("musicgen-small", 1536, "medium"),
        ("musicgen-small", 2048, "large"),
        ("musicgen-medium", 1024, "small"),
        ("musicgen-stereo-large", 1536, "medium"),
        ("musicgen-melody", 2048, "large"),
        ("musicgen-melody-large", 1536, "medium"),
    ],
)
def test_another_published_size_under_a_name_is_refused(copied: Path, version: str, width: int, size: str) -> None:
    """By the width of its decoder; the catalogue says what memory the model of that name takes."""
    spec = spec_of(model_version=version, channels=None, inputs=("source", "reference") if "melody" in version else ())
    folder = (copied / NAME).rename(copied / version)
    config = json.loads((folder / "config.json").read_text())
    config["decoder"]["hidden_size"] = width
    if "melody" in version:
        config["model_type"] = "musicgen_melody"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SoundfleetError, match=f"MODEL_LOAD_FAILED: .* it is of the size {size}"):
        MusicGenFactory(spec, ModelConfig(model_dir=copied)).load("cpu", lambda _status, _percent: None)


def test_another_sample_rate_is_refused(copied: Path) -> None:
    """The catalogue's is what the supervisor resamples to and what the result claims."""
    factory = MusicGenFactory(spec_of(sample_rate=32_000), ModelConfig(model_dir=copied))
    with pytest.raises(SoundfleetError, match=r"MODEL_LOAD_FAILED: .* its sample rate is 3200 Hz, not 32000"):
        factory.load("cpu", lambda _status, _percent: None)


@pytest.mark.parametrize("precision", list(Precision))
def test_every_precision_decodes(
    published: Path, tmp_path: Path, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result says which one acted; audio is float32 in all of them."""
    monkeypatch.setattr("soundfleet_worker.backends.precision._cpu_has", lambda _floats: True)
    factory = MusicGenFactory(spec_of(), ModelConfig(model_dir=published, precision=precision))
    model = factory.load("cpu", lambda _status, _percent: None)
    assert isinstance(model, MusicGenModel)
    (output,) = play(model, [job_of(tmp_path, seconds=5)])
    assert output.audio["track"].dtype == np.float32
    acted = output.parameters["precision"]
    assert acted in ("bf16", "fp32") if precision is Precision.Auto else acted == precision
