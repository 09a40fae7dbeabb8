"""Checkpoints are loaded as a hub download lies there; whatever is wrong with one says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytest.importorskip("diffusers", reason="needs the worker extra")
from safetensors.torch import load_file, save_file  # noqa: E402
from tests.ace_step_checkpoint import build, job_of, play, spec_of  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

from soundfleet_schemas import BackendStatus, ErrorCode, Precision, SoundfleetError  # noqa: E402
from soundfleet_worker.ace_step.files import Found, Missing, find, weights_of  # noqa: E402
from soundfleet_worker.ace_step.loading import dtype_of  # noqa: E402
from soundfleet_worker.backends.ace_step import AceStepFactory, AceStepModel  # noqa: E402
from soundfleet_worker.backends.contract import ModelConfig  # noqa: E402

TURBO = "acestep-v15-turbo"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A turbo checkpoint whose transformer is in several files."""
    return build(tmp_path_factory.mktemp("published") / TURBO, shards=True)


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy to be broken."""
    return shutil.copytree(published, tmp_path / TURBO)


def factory_of(folder: Path, version: str | None = None, precision: Precision = Precision.Auto) -> AceStepFactory:
    return AceStepFactory(spec_of(version or folder.name), ModelConfig(model_dir=folder.parent, precision=precision))


def loaded(factory: AceStepFactory) -> AceStepModel:
    assert factory.status() == (BackendStatus.Ready, None)
    model = factory.load("cpu", lambda _status, _percent: None)
    assert isinstance(model, AceStepModel)
    return model


def refusal(factory: AceStepFactory) -> SoundfleetError:
    with pytest.raises(SoundfleetError) as caught:
        factory.load("cpu", lambda _status, _percent: None)
    return caught.value


XL = "acestep-v15-xl-turbo"
"""Which the hub has in this layout."""


def test_a_checkpoint_in_several_files_is_loaded(folder: Path, tmp_path: Path) -> None:
    """And makes music, whose result names its weights and how it was made."""
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    model = loaded(factory_of(folder, precision=Precision.Float32))
    [output] = play(model, job_of(model.spec, tmp_path))
    made = output.parameters
    assert made["checkpoint"] == TURBO
    assert (made["inference_steps"], made["scheduler"], made["guidance_scale"], made["shift"]) == (3, "euler", 1.0, 3.0)
    assert (made["task"], made["precision"], made["seed"]) == ("text2music", "float32", 7)
    assert made["weights"] == weights_of(folder)


def test_it_is_found_in_the_hubs_cache(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Laid out as a download is: blobs, and links to them in a snapshot."""
    cache = tmp_path / "hub"
    repository = cache / f"models--{spec_of(XL).repository.replace('/', '--')}"
    revision = "0" * 40
    for path in (path for path in published.rglob("*") if path.is_file()):
        blob = repository / "blobs" / str(abs(hash(path)))
        link = repository / "snapshots" / revision / path.relative_to(published)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    found = find(spec_of(XL), ModelConfig())
    assert isinstance(found, Found)
    assert found.folder == repository / "snapshots" / revision
    loaded(AceStepFactory(spec_of(XL), ModelConfig()))


def _without(component: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / component)


def _cut(name: str) -> Callable[[Path], None]:
    """Break a file off, as an interrupted copy does."""

    def cut(folder: Path) -> None:
        path = sorted(folder.glob(name))[-1]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


def _one_shard_less(folder: Path) -> None:
    sorted((folder / "transformer").glob("*.safetensors"))[-1].unlink()


def _another_pipeline(folder: Path) -> None:
    _rewrite(folder / "model_index.json", _class_name="StableAudioPipeline")


def _another_class(folder: Path) -> None:
    _rewrite(folder / "transformer" / "config.json", _class_name="StableAudioDiTModel")


def _other_shapes(folder: Path) -> None:
    _rewrite(folder / "condition_encoder" / "config.json", intermediate_size=48)


def _another_rate(folder: Path) -> None:
    _rewrite(folder / "vae" / "config.json", sampling_rate=44_100)


def _guided(folder: Path) -> None:
    _rewrite(folder / "transformer" / "config.json", is_turbo=False, model_version="base")


def _wide(folder: Path) -> None:
    _rewrite(folder / "transformer" / "config.json", hidden_size=2560)


def _no_silence(folder: Path) -> None:
    path = folder / "condition_encoder" / WEIGHTS
    tensors = load_file(path)
    del tensors["silence_latent"]
    save_file(tensors, path)


def _words_of_another(folder: Path) -> None:
    words = AutoTokenizer.from_pretrained(folder / "tokenizer")
    words.add_tokens([f"<word {number}>" for number in range(1024)])
    words.save_pretrained(folder / "tokenizer")


def _rewrite(path: Path, **changed: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no transformer": (_without("transformer"), "lacks transformer"),
    "no vae": (_without("vae"), "lacks vae"),
    "no words": (_without("tokenizer"), "lacks tokenizer"),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "model_index.json cannot be read"),
    "a shard that is cut": (_cut("transformer/*.safetensors"), "transformer"),
    "a shard less": (_one_shard_less, ".safetensors"),
    "a text encoder that is cut": (_cut("text_encoder/*.safetensors"), "cannot be used"),
    "an index that is cut": (_cut("model_index.json"), "model_index.json cannot be read"),
    "another pipeline": (_another_pipeline, "StableAudioPipeline, not of AceStepPipeline"),
    "another class": (_another_class, "StableAudioDiTModel, not AceStepTransformer1DModel"),
    "other shapes": (_other_shapes, "cannot be used"),
    "another sample rate": (_another_rate, "44100 instead of 48000"),
    "no distillation": (_guided, "no turbo checkpoint"),
    "another size": (_wide, "of the size XL, not 2B"),
    "words of another": (_words_of_another, "text encoder 1024"),
    "no silence": (_no_silence, "silence_latent"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_with_a_checkpoint_is_said(folder: Path, what: str) -> None:
    """It is not loaded half, and no weight stays at random; the message names the folder and what to do."""
    damage, words = BROKEN[what]
    damage(folder)
    refused = refusal(factory_of(folder))
    assert refused.code is ErrorCode.MODEL_LOAD_FAILED
    assert words in refused.info.message
    assert str(folder) in refused.info.message
    assert "convert_ace_step_to_diffusers" in refused.info.action
    assert not refused.info.retryable


@pytest.mark.parametrize(
    ("version", "config", "words"),
    [
        ("acestep-v15-xl-turbo", {"hidden_size": 2048}, "of the size 2B, not XL"),
        ("acestep-v15-base", {"hidden_size": 2560, "model_version": "base"}, "of the size XL, not 2B"),
        ("acestep-v15-base", {"model_version": "sft"}, "of the training sft, not base"),
        ("acestep-v15-xl-sft", {"hidden_size": 2560, "model_version": "xl-base"}, "of the training base, not sft"),
    ],
)
def test_another_of_the_family_under_a_name_is_refused(
    folder: Path, version: str, config: dict[str, object], words: str
) -> None:
    """By its transformer's width and what that says of itself; before the weights are read."""
    _rewrite(folder / "transformer" / "config.json", **config)
    refused = refusal(factory_of(folder.rename(folder.with_name(version))))
    assert refused.code is ErrorCode.MODEL_LOAD_FAILED
    assert words in refused.info.message


@pytest.mark.parametrize("said", ["CUDA error: an illegal memory access was encountered", "CUDA error: out of memory"])
def test_what_is_wrong_with_the_device_is_not_the_files_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """The engine judges it: other jobs and other workers can do better."""

    def broken(*_args: object, **_how: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(torch.nn.Module, "to", broken)
    with pytest.raises(RuntimeError, match=said):
        factory_of(folder).load("cpu", lambda _status, _percent: None)


def test_weights_that_a_distilled_checkpoint_never_reads_may_lack(folder: Path) -> None:
    """The wordless opinion is one of guidance; a guided checkpoint needs it."""
    path = folder / "condition_encoder" / WEIGHTS
    tensors = load_file(path)
    del tensors["null_condition_emb"]
    save_file(tensors, path)
    loaded(factory_of(folder))


def test_the_first_generation_is_refused_with_the_reason(tmp_path: Path) -> None:
    """Though its folder may be there: diffusers does not load it."""
    (tmp_path / "ACE-Step-v1-3.5B").mkdir()
    factory = factory_of(tmp_path / "ACE-Step-v1-3.5B")
    status, reason = factory.status()
    assert status is BackendStatus.NotInstalled
    assert reason is not None
    assert "v1-3.5B has another architecture" in reason
    refused = refusal(factory)
    assert refused.code is ErrorCode.MODEL_LOAD_FAILED
    assert "acestep-v15-turbo" in refused.info.action


def test_a_checkpoint_that_is_not_here_says_how_to_get_it(tmp_path: Path) -> None:
    """From the hub where it has it in this layout, else by conversion."""
    for version, words in (
        (f"{TURBO}-of-mine", "convert_ace_step_to_diffusers"),
        (XL, "soundfleet backends pull ace_step_xl_turbo"),
    ):
        found = find(spec_of(version), ModelConfig(model_dir=tmp_path))
        assert isinstance(found, Missing)
        assert words in found.reason
        assert refusal(factory_of(tmp_path / version)).code is ErrorCode.BACKEND_NOT_READY


def test_precision_is_the_operators(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the memory, and nearly the same music."""
    monkeypatch.setattr("soundfleet_worker.backends.precision.has_bfloat16", lambda _device: True)
    full, half = (loaded(factory_of(folder, precision=p)) for p in (Precision.Float32, Precision.BFloat16))
    assert half._parts.weight_bytes < 0.6 * full._parts.weight_bytes
    tracks = []
    for model in (full, half):
        [output] = play(model, job_of(model.spec, tmp_path))
        tracks.append(torch.from_numpy(output.audio["track"]))
    assert output.parameters["precision"] == "bfloat16"
    error = (tracks[0] - tracks[1]).square().sum() / tracks[0].square().sum()
    assert 0 < float(error) < 0.05


def test_other_weights_have_other_names(folder: Path) -> None:
    """The result tells two sets of files apart."""
    before = weights_of(folder)
    path = folder / "vae" / WEIGHTS
    tensors = load_file(path)
    tensors["decoder.conv1.bias"] += 1.0
    save_file(tensors, path)
    after = weights_of(folder)
    assert [name for name in after if name not in before] == [after[-1]]
    assert after[-1].startswith("vae-")


def test_memory_is_predicted(folder: Path, tmp_path: Path) -> None:
    """The weights and a launch; a run by its duration."""
    model = loaded(factory_of(folder))
    assert model.memory_bytes > model._parts.weight_bytes > 0
    short, long = (model.memory_of(job_of(model.spec, tmp_path, duration_sec=seconds)) for seconds in (10, 100))
    assert long > 5 * short
    assert short > 10 * 48_000 * 2 * 4


@pytest.mark.parametrize(("native", "floats"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_floats_are_the_processors_own(monkeypatch: pytest.MonkeyPatch, native: bool, floats: torch.dtype) -> None:
    """Half-width ones where it multiplies them natively; a precision that was named acts, or is refused."""
    monkeypatch.setattr("soundfleet_worker.backends.precision.has_bfloat16", lambda _device: native)
    assert dtype_of(Precision.Auto, "cpu") is floats
    assert dtype_of(Precision.Float32, "cpu") is torch.float32
    if not native:
        with pytest.raises(SoundfleetError) as caught:
            dtype_of(Precision.BFloat16, "cpu")
        assert caught.value.code is ErrorCode.BACKEND_NOT_READY
