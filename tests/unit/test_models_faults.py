"""What keeps a model away is one error that says what to do, and leaves nothing that could be taken for the model."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from tests.published import CONFIG, FILES, NAME, REPOSITORY, SECOND, WANTED, contents, use

hub_client = pytest.importorskip("huggingface_hub", reason="needs the worker extra")

from tests.hub import Hub, digest  # noqa: E402

from soundfleet_producer.local import free_port  # noqa: E402
from soundfleet_schemas import ErrorCode, SoundfleetError  # noqa: E402
from soundfleet_worker.backends.contract import ModelConfig  # noqa: E402
from soundfleet_worker.models import download as downloading  # noqa: E402
from soundfleet_worker.models import obtainable, pull, snapshot  # noqa: E402


def refused(code: ErrorCode, words: str, **options: Path) -> SoundfleetError:
    """Pull, and expect an error."""
    with pytest.raises(SoundfleetError, match=words) as caught:
        pull(NAME, CONFIG, **options)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_model_is_nobodys_before_it_is_whole(hub: Hub) -> None:
    """A pull that fails half-way leaves no snapshot that a backend could take for the model."""
    hub.wrong["d12395a8.safetensors"] = bytes(len(SECOND))
    refused(ErrorCode.MODEL_LOAD_FAILED, "wrong hash")
    assert snapshot(NAME) is None


@pytest.mark.parametrize("path", ["d12395a8.safetensors", "htdemucs_ft.yaml"])
def test_wrong_bytes_are_an_error_and_are_removed(hub: Hub, cache: Path, path: str) -> None:
    """By SHA-256 or by git's hash; the next pull begins that file anew."""
    hub.wrong[path] = FILES[path][:-1] + b"!"
    error = refused(ErrorCode.MODEL_LOAD_FAILED, f"{path.replace('.', '[.]')} of {NAME} .* wrong hash")
    assert not error.info.retryable
    assert "soundfleet backends pull htdemucs_ft" in error.info.action
    assert not list(cache.rglob("*.partial"))
    hub.wrong.clear()
    assert contents(pull(NAME, CONFIG)) == WANTED
    assert hub.gets(path) == [0, 0]


@pytest.mark.parametrize(
    ("files", "words"),
    [({}, "has no htdemucs_ft.yaml"), ({"htdemucs_ft.yaml": b"models: ['f7e0c4bc']\n"}, "has no [*].safetensors")],
)
def test_a_repository_that_lacks_files_says_which(hub: Hub, files: dict[str, bytes], words: str) -> None:
    """A repetition would fare no better."""
    hub.repositories[REPOSITORY] = files
    assert not refused(ErrorCode.MODEL_LOAD_FAILED, words).info.retryable


def test_a_repository_that_does_not_have_what_it_names_is_an_error(hub: Hub) -> None:
    """A bag of three of which two are there would be no model."""
    hub.repositories[REPOSITORY]["htdemucs_ft.yaml"] = b"models: ['f7e0c4bc', 'd12395a8', '92cfc3b6']\n"
    refused(ErrorCode.MODEL_LOAD_FAILED, "lacks files that its own description names")
    assert snapshot(NAME) is None


def test_a_repository_that_is_not_there_or_closed_is_permanent(hub: Hub) -> None:
    """The hub says 401 of both, and names neither."""
    hub.repositories.clear()
    assert "HF_TOKEN" in refused(ErrorCode.MODEL_LOAD_FAILED, "the hub answers 401").info.action


def test_a_hub_that_is_away_is_known_at_once(
    cache: Path,  # noqa: ARG001 - nothing is written there
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And may be back later."""
    use(f"http://127.0.0.1:{free_port()}", monkeypatch)
    error = refused(ErrorCode.BACKEND_NOT_READY, "cannot be pulled from 127")
    assert error.info.retryable
    assert "SOUNDFLEET_MODEL_DIR" in error.info.action


def test_a_hub_that_is_out_of_order_may_be_asked_later(hub: Hub) -> None:
    """A status of 503 says nothing against the model."""
    hub.status = 503
    assert refused(ErrorCode.BACKEND_NOT_READY, "503").info.retryable


def test_a_hub_that_goes_away_in_the_middle_keeps_what_it_gave(hub: Hub, cache: Path) -> None:
    """The next pull goes on."""
    hub.wrong["d12395a8.safetensors"] = SECOND[:1_500_000]
    hub.cut["d12395a8.safetensors"] = 1_500_000
    error = refused(ErrorCode.BACKEND_NOT_READY, "sends less than it has listed")
    assert error.info.retryable
    assert [path.stat().st_size for path in cache.rglob("*.partial")] == [1_500_000]


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "has no room"), (errno.EACCES, "Permission denied")])
def test_a_disk_that_takes_nothing_says_so(
    hub: Hub,  # noqa: ARG001 - it is asked
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    words: str,
) -> None:
    """With the way out."""

    def refuse(*_args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(downloading, "_gather", refuse)
    assert "HF_HOME" in refused(ErrorCode.BACKEND_NOT_READY, words).info.action


def test_a_disk_without_room_is_noticed_before_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than after gigabytes."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, 1000))  # type: ignore[attr-defined]
    refused(ErrorCode.BACKEND_NOT_READY, "has no room for 4 MB")
    assert hub.asked == []


def test_an_unknown_or_unpublished_name_lists_those_that_there_are() -> None:
    """htdemucs_mini is in the package."""
    for name in ("htdemucs_mini", "nothing"):
        with pytest.raises(SoundfleetError, match="htdemucs, htdemucs_ft") as caught:
            pull(name, CONFIG)
        assert caught.value.code == ErrorCode.INVALID_MODEL


def test_offline_nobody_is_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """By our setting, and by that of the hub's client."""
    with pytest.raises(SoundfleetError, match="Unset SOUNDFLEET_OFFLINE"):
        pull(NAME, ModelConfig(offline=True))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in refused(ErrorCode.BACKEND_NOT_READY, "not on this machine").info.action
    assert not obtainable("htdemucs", CONFIG)
    assert hub.asked == []


@pytest.mark.parametrize("path", ["../evil.safetensors", "/evil.safetensors", "a\\..\\evil.safetensors"])
def test_a_list_that_leads_out_of_the_folder_is_refused(hub: Hub, tmp_path: Path, path: str) -> None:
    """A hub is another's machine."""
    hub.repositories[REPOSITORY][path] = b"x"
    refused(ErrorCode.MODEL_LOAD_FAILED, "lists", directory=tmp_path / "models")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    "says",
    [
        {"blobId": "0" * 40, "lfs": {"sha256": "../../../../victim", "size": 9, "pointerSize": 130}},
        {"lfs": None, "blobId": "/victim"},
        {"size": -1},
        {"size": "9"},
        {"size": None},
    ],
)
def test_a_list_with_a_hash_or_a_size_that_is_none_is_refused(
    hub: Hub, cache: Path, tmp_path: Path, says: dict[str, object]
) -> None:
    """Files are named by the hash: one that is a path would remove, or write, whatever lies there."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    hub.listed["d12395a8.safetensors"] = says
    refused(ErrorCode.MODEL_LOAD_FAILED, "without a place, a size or a hash")
    assert victim.read_bytes() == b"precious"
    assert hub.asked == []
    assert not list(cache.rglob("*.partial"))


@pytest.mark.parametrize("commit", ["../../../../elsewhere", "main", ""])
def test_a_commit_that_is_no_hash_is_refused(hub: Hub, cache: Path, commit: str) -> None:
    """The snapshot's folder is named by it."""
    hub.commit = commit
    refused(ErrorCode.MODEL_LOAD_FAILED, "which commit")
    assert not list(cache.rglob("snapshots"))


def test_a_beginning_that_is_not_the_files_is_fetched_anew(hub: Hub, cache: Path) -> None:
    """A machine that lost its power may have kept the length without the bytes."""
    blobs = cache / "models--adefossez--HTDemucs-ft" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{digest(SECOND)}.partial").write_bytes(bytes(1_000_000))
    pull(NAME, CONFIG)
    assert hub.gets("d12395a8.safetensors") == [1_000_000, 0]


def test_the_hubs_token_stays_with_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is on another host, which is sent to by a redirect."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pull(NAME, CONFIG)
    assert ("127.0.0.1", "Bearer hf_secret") in hub.shown
    assert {token for host, token in hub.shown if host != "127.0.0.1"} == {None}
