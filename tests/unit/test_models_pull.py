"""Models come from the hub whole, checked, and by one download; the hub is on loopback, its client is the real one."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event, Thread

import pytest
from tests.published import CONFIG, NAME, REPOSITORY, SECOND, WANTED, contents

hub_client = pytest.importorskip("huggingface_hub", reason="needs the worker extra")

from tests.hub import COMMIT, Hub, digest  # noqa: E402
from tests.waiting import wait_until  # noqa: E402

from soundfleet_worker.backends.contract import ModelConfig  # noqa: E402
from soundfleet_worker.models import PUBLISHED, Fetched, pull, snapshot  # noqa: E402
from soundfleet_worker.models.published import Published  # noqa: E402


def test_a_model_is_pulled_with_its_progress(hub: Hub) -> None:
    """Only what it needs, and the bytes of all files count together."""
    told: list[Fetched] = []
    folder = pull(NAME, CONFIG, told.append)
    assert contents(folder) == WANTED
    assert snapshot(NAME) == folder
    total = sum(map(len, WANTED.values()))
    assert {fetched.total_bytes for fetched in told} == {total}
    done = [fetched.done_bytes for fetched in told]
    assert done == sorted(done)
    assert (told[-1].percent, told[-1].done_bytes) == (100, total)
    assert {fetched.component for fetched in told} >= set(WANTED)
    assert len({fetched.percent for fetched in told}) > 3
    assert hub.gets("README.md") == []


def test_the_hubs_own_client_finds_what_was_pulled(hub: Hub, cache: Path) -> None:
    """The cache has its layout: nothing is fetched a second time, offline or not."""
    folder = pull(NAME, CONFIG)
    asked = len(hub.asked)
    for offline in (True, False):
        found = hub_client.hf_hub_download(
            REPOSITORY, "f7e0c4bc.safetensors", cache_dir=cache, local_files_only=offline
        )
        assert Path(found) == folder / "f7e0c4bc.safetensors"
    assert [method for method, _, _ in hub.asked[asked:] if method == "GET"] == []
    assert folder.name == COMMIT


def test_what_the_hubs_own_client_has_pulled_is_found(hub: Hub, cache: Path) -> None:
    """And completed, where it has stopped half-way."""
    for path in ("htdemucs_ft.yaml", "f7e0c4bc.safetensors"):
        hub_client.hf_hub_download(REPOSITORY, path, cache_dir=cache)
    assert snapshot(NAME) is None
    hub.asked.clear()
    assert contents(pull(NAME, CONFIG)) == WANTED
    assert hub.gets("f7e0c4bc.safetensors") == []


def test_what_is_here_is_not_asked_for_again(hub: Hub) -> None:
    """Not even whether there is something newer: the hub may be away, and the machine offline."""
    folder = pull(NAME, CONFIG)
    hub.status = 503
    assert pull(NAME, CONFIG) == folder
    assert pull(NAME, ModelConfig(offline=True)) == folder


def test_a_damaged_file_is_found_and_fetched_again(hub: Hub) -> None:
    """Only that one."""
    folder = pull(NAME, CONFIG)
    hub.asked.clear()
    with (folder / "d12395a8.safetensors").open("r+b") as file:
        file.seek(1000)
        file.write(b"rot")
    assert contents(pull(NAME, CONFIG)) == WANTED
    assert [path for _, path, _ in hub.asked] == ["d12395a8.safetensors"]


def test_a_cut_connection_is_made_again_where_it_was_cut(hub: Hub) -> None:
    """Within one pull."""
    hub.cut["d12395a8.safetensors"] = 2_000_000
    assert contents(pull(NAME, CONFIG)) == WANTED
    first, second = hub.gets("d12395a8.safetensors")
    assert first == 0
    assert 0 < second <= 2_000_000


def test_a_pull_that_was_killed_is_gone_on_with(hub: Hub, cache: Path) -> None:
    """What it had gathered lies beside the content, under the content's hash."""
    blobs = cache / "models--adefossez--HTDemucs-ft" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{digest(SECOND)}.partial").write_bytes(SECOND[:1_234_567])
    assert contents(pull(NAME, CONFIG)) == WANTED
    assert hub.gets("d12395a8.safetensors") == [1_234_567]
    assert not list(blobs.glob("*.partial"))


def test_two_pulls_at_once_are_one_download(hub: Hub) -> None:
    """The second waits, tells how far the first is, and finds all there."""
    hub.slow = Event()
    told: tuple[list[Fetched], list[Fetched]] = ([], [])
    folders: list[Path] = []
    threads = [Thread(target=lambda heard=heard: folders.append(pull(NAME, CONFIG, heard.append))) for heard in told]
    threads[0].start()
    wait_until(lambda: told[0], "the first pull")
    threads[1].start()
    wait_until(lambda: told[1] and told[1][-1].done_bytes, "the second pull to see the first one's bytes")
    assert {fetched.component for fetched in told[1]} == {""}
    hub.slow.set()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1
    assert contents(folders[0]) == WANTED
    assert [len(hub.gets(path)) for path in WANTED] == [1, 1, 1]


def test_a_directory_of_models_is_filled_for_other_machines(hub: Hub, tmp_path: Path) -> None:
    """Plain files under their names, and nothing else; a damaged one is fetched again, the others are not."""
    directory = tmp_path / "models"
    assert pull(NAME, CONFIG, directory=directory) == directory
    assert contents(directory) == WANTED
    (directory / "f7e0c4bc.safetensors").write_bytes(b"short")
    hub.asked.clear()
    pull(NAME, CONFIG, directory=directory)
    assert contents(directory) == WANTED
    assert [path for _, path, _ in hub.asked] == ["f7e0c4bc.safetensors"]


def test_a_model_of_several_components_needs_every_shard(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders and indices are followed, and what the patterns leave out stays there."""
    index = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    files = {
        "config.json": b"{}",
        "vae/config.json": b"{}",
        "vae/model.safetensors": os.urandom(5000),
        "model.safetensors.index.json": index,
        "model-1.safetensors": os.urandom(5000),
        "model-2.safetensors": os.urandom(5000),
        "pytorch_model.bin": os.urandom(5000),
    }
    hub.repositories["owner/parts"] = files
    model = Published("owner/parts", ("*.json", "*.safetensors"))
    monkeypatch.setitem(PUBLISHED, "parts", model)
    folder = pull("parts", CONFIG)
    assert contents(folder) == {path: body for path, body in files.items() if path != "pytorch_model.bin"}
    (folder / "model-2.safetensors").unlink()
    assert snapshot("parts") is None
    assert pull("parts", CONFIG) == folder
    assert snapshot("parts") == folder
