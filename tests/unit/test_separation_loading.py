"""Models are found and loaded from folders in Demucs' layouts, and never from anywhere else."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.demucs_checkpoint import in_the_hubs_cache, network, write_pickled, write_safetensors

torch = pytest.importorskip("torch", reason="needs the worker extra")
from demucs.htdemucs import HTDemucs  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from soundfleet_schemas import (  # noqa: E402
    CATALOG,
    STEMS,
    BackendStatus,
    ErrorCode,
    SeparationRequest,
    SoundfleetError,
    StemSeparationOptions,
)
from soundfleet_worker.backends.contract import EngineJob, ModelConfig  # noqa: E402
from soundfleet_worker.backends.demucs import DemucsFactory  # noqa: E402
from soundfleet_worker.separation.files import Found, Missing, find  # noqa: E402
from soundfleet_worker.separation.loading import load  # noqa: E402

HTDEMUCS = CATALOG["htdemucs"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the model hub."""
    cache = tmp_path / "hub"
    for module in ("huggingface_hub.constants", "huggingface_hub.file_download"):
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            monkeypatch.setattr(f"{module}.{name}", str(cache), raising=False)
    return cache


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Collects the addresses that anything wants to connect to, and refuses."""
    asked: list[object] = []

    def refuse(_socket: socket.socket, address: object) -> None:
        asked.append(address)
        raise OSError("the network is away")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_a, **_k: refuse(None, host))  # type: ignore[arg-type]
    return asked


Write = Callable[..., Path]


@pytest.mark.parametrize("write", [write_pickled, write_safetensors])
def test_a_model_in_the_operators_folder_is_used(tmp_path: Path, write: Write, no_network: list[object]) -> None:
    """In either layout, and nobody is asked."""
    model = network()
    write(tmp_path / "models", model)
    source = ModelConfig(tmp_path / "models")
    assert DemucsFactory(HTDEMUCS, source).status() == (BackendStatus.Ready, None)
    bag, _weights = load(HTDEMUCS, source)
    assert torch.equal(bag.models[0].encoder[0].conv.weight, model.encoder[0].conv.weight)
    assert not bag.models[0].training
    assert no_network == []


def test_a_single_model_without_a_bag_is_a_bag_of_one(tmp_path: Path) -> None:
    """A ``.th`` file may carry the model's name itself."""
    path = write_pickled(tmp_path / "models", network())
    path.rename(path.with_name("htdemucs.th"))
    (tmp_path / "models" / "htdemucs.yaml").unlink()
    bag, weights = load(HTDEMUCS, ModelConfig(tmp_path / "models"))
    assert len(bag.models) == 1
    assert weights[0].startswith("htdemucs-")


@pytest.mark.parametrize("write", [write_pickled, write_safetensors])
def test_other_weights_under_the_same_name_are_told_apart(tmp_path: Path, write: Write) -> None:
    """By the checksum of what was loaded: the catalogue's version is the same for both."""
    models = network(), network(channels=16)
    paths = [write(tmp_path / str(index), model) for index, model in enumerate(models)]
    named = [load(HTDEMUCS, ModelConfig(path.parent))[1] for path in paths]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest()[:8] for path in paths]
    assert named == [(f"955717e8-{digest}",) for digest in digests]
    assert digests[0] != digests[1]


def test_a_model_in_the_hubs_cache_is_used(hub_cache: Path, no_network: list[object]) -> None:
    """Without asking the hub whether there is a newer one."""
    repository = hub_cache / "models--adefossez--HTDemucs"
    write_safetensors(repository / "snapshots" / "abc", network())
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert isinstance(find("htdemucs", ModelConfig()), Found)
    load(HTDEMUCS, ModelConfig())
    assert no_network == []


def test_nothing_anywhere_says_what_to_do(no_network: list[object], tmp_path: Path) -> None:
    """The status, and the error of a load, which asks nobody."""
    status, reason = DemucsFactory(HTDEMUCS, ModelConfig()).status()
    assert status is BackendStatus.NotInstalled
    assert reason is not None
    assert "soundfleet backends pull htdemucs" in reason
    for source in (ModelConfig(), ModelConfig(tmp_path), ModelConfig(tmp_path / "nowhere", offline=True)):
        with pytest.raises(SoundfleetError) as caught:
            load(HTDEMUCS, source)
        assert caught.value.code == ErrorCode.BACKEND_NOT_READY
    assert no_network == []


@pytest.mark.parametrize("write", [write_pickled, write_safetensors])
def test_missing_weights_are_named(tmp_path: Path, write: Write) -> None:
    """The folder and the signature are in the reason."""
    write(tmp_path / "models", network()).unlink()
    found = find("htdemucs", ModelConfig(tmp_path / "models"))
    assert isinstance(found, Missing)
    assert "955717e8" in found.reason
    assert str(tmp_path / "models") in found.reason


@pytest.mark.parametrize("write", [write_pickled, write_safetensors])
@pytest.mark.parametrize("damage", ["cut", "scrambled", "empty"])
def test_damaged_weights_fail_to_load(tmp_path: Path, write: Write, damage: str) -> None:
    """With what to do about it."""
    path = write(tmp_path / "models", network())
    raw = path.read_bytes()
    path.write_bytes(
        {"cut": raw[: len(raw) // 2], "scrambled": raw[:100] + bytes(len(raw) - 100), "empty": b""}[damage]
    )
    with pytest.raises(SoundfleetError) as caught:
        load(HTDEMUCS, ModelConfig(tmp_path / "models"))
    assert caught.value.code == ErrorCode.MODEL_LOAD_FAILED
    assert "soundfleet backends pull htdemucs" in caught.value.info.action
    assert str(tmp_path / "models") in caught.value.info.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": ["drums", "vocals"]}, "stems drums,vocals"),
        ({"samplerate": 16_000}, "16000 Hz"),
        ({"audio_channels": 1}, "1 channels"),
        ({"segment": 2}, "2 s at most"),
    ],
)
def test_a_model_of_another_shape_fails_to_load(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """It would give stems under wrong names, or at a wrong pitch."""
    write_safetensors(tmp_path / "models", network(**changes))
    with pytest.raises(SoundfleetError, match=words) as caught:
        load(HTDEMUCS, ModelConfig(tmp_path / "models"))
    assert caught.value.code == ErrorCode.MODEL_LOAD_FAILED


def test_weights_of_another_architecture_fail_to_load(tmp_path: Path) -> None:
    """The tensors do not fit the class that the file names."""
    path = write_safetensors(tmp_path / "models", network())
    model = network(channels=16)
    metadata = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(network()._init_args_kwargs[1])}
    save_file(dict(model.state_dict()), path, metadata)
    with pytest.raises(SoundfleetError, match="size mismatch") as caught:
        load(HTDEMUCS, ModelConfig(tmp_path / "models"))
    assert caught.value.code == ErrorCode.MODEL_LOAD_FAILED


def test_a_file_that_names_no_class_of_demucs_is_never_called(tmp_path: Path) -> None:
    """Demucs' loader would call whatever the metadata names."""
    path = write_safetensors(tmp_path / "models", network())
    trap = tmp_path / "sprung"
    metadata = {"klass": "os.mkdir", "args": json.dumps([str(trap)]), "kwargs": "{}"}
    save_file(dict(network().state_dict()), path, metadata)
    with pytest.raises(SoundfleetError, match=r"os\.mkdir") as caught:
        load(HTDEMUCS, ModelConfig(tmp_path / "models"))
    assert caught.value.code == ErrorCode.MODEL_LOAD_FAILED
    assert not trap.exists()


@pytest.mark.parametrize("text", ["nothing: here\n", "[", "models: 3\n", "\x00"])
def test_a_description_that_is_none_fails_to_load(tmp_path: Path, text: str) -> None:
    """The file is named."""
    (tmp_path / "htdemucs.yaml").write_text(text)
    with pytest.raises(SoundfleetError, match=r"htdemucs\.yaml") as caught:
        load(HTDEMUCS, ModelConfig(tmp_path))
    assert caught.value.code == ErrorCode.MODEL_LOAD_FAILED


def test_a_file_of_the_hubs_cache_that_has_rotted_fails_to_load(hub_cache: Path) -> None:
    """A few wrong bits among the weights would only be heard."""
    blob = in_the_hubs_cache(hub_cache, lambda folder: write_safetensors(folder, network()))
    load(HTDEMUCS, ModelConfig())
    raw = bytearray(blob.read_bytes())
    raw[-100] ^= 1
    blob.write_bytes(raw)
    with pytest.raises(SoundfleetError, match="checksum") as caught:
        load(HTDEMUCS, ModelConfig())
    assert caught.value.code == ErrorCode.MODEL_LOAD_FAILED
    assert "soundfleet backends pull htdemucs" in caught.value.info.action
    assert "--dir" not in caught.value.info.action


def test_a_model_that_was_pulled_half_way_is_not_installed(hub_cache: Path) -> None:
    """And the reason names what is missing."""
    in_the_hubs_cache(hub_cache, lambda folder: write_safetensors(folder, network())).unlink()
    status, reason = DemucsFactory(HTDEMUCS, ModelConfig()).status()
    assert status is BackendStatus.NotInstalled
    assert "955717e8" in str(reason)


def test_a_published_model_separates_by_the_same_path(tmp_path: Path) -> None:
    """A checkpoint with htdemucs' own numbers, but for its width, in its own layout: one segment of 7.8 seconds."""
    write_pickled(
        tmp_path / "models",
        HTDemucs(
            sources=list(STEMS),
            channels=8,
            bottom_channels=64,
            t_layers=1,
            dconv_mode=3,
            samplerate=44_100,
            segment=7.8,
        ),
    )
    audio = (0.1 * np.random.default_rng(0).standard_normal((2, 3 * 44_100))).astype(np.float32)
    np.save(tmp_path / "mix.npy", audio)
    model = DemucsFactory(HTDEMUCS, ModelConfig(tmp_path / "models")).load("cpu", lambda _status, _percent: None)
    options = StemSeparationOptions(model="htdemucs", shifts=0)
    job = EngineJob(
        "job",
        SeparationRequest(source="s3://b/k", options=options),
        HTDEMUCS,
        {"source": tmp_path / "mix.npy"},
        tmp_path,
    )
    run = model.begin(job)
    assert run.total_steps == 1
    model.step([run])
    output = model.finish(run)
    stems = output.audio
    assert [name.partition("-")[0] for name in output.parameters["weights"]] == ["955717e8"]
    assert list(stems) == list(STEMS)
    np.testing.assert_allclose(sum(stems.values()), audio, atol=1e-6)


def test_a_pickle_in_the_hubs_cache_is_never_read(hub_cache: Path) -> None:
    """Another program may have put it there, from whoever publishes; it can run code."""
    in_the_hubs_cache(hub_cache, lambda folder: write_pickled(folder, network()))
    status, reason = DemucsFactory(HTDEMUCS, ModelConfig()).status()
    assert status is BackendStatus.NotInstalled
    assert "955717e8" in str(reason)


@pytest.mark.parametrize("models", ["['../../elsewhere']", "['/elsewhere']", "[[a, [b]]]", "[{a: b}]", "[]"])
def test_a_description_whose_signatures_are_no_names_fails_to_load(tmp_path: Path, models: str) -> None:
    """Files are named by them: none is looked for elsewhere, and nothing is written out that refers to itself."""
    (tmp_path / "htdemucs.yaml").write_text(f"models: {models}\n")
    with pytest.raises(SoundfleetError, match="signatures are no names") as caught:
        load(HTDEMUCS, ModelConfig(tmp_path))
    assert caught.value.code == ErrorCode.MODEL_LOAD_FAILED
