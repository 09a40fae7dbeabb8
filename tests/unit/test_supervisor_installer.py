"""The installer: one download per model for all that wait, in a process of its own; the hub is on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest
import structlog
from tests.hub import Hub, serving
from tests.waiting import wait_until

pytest.importorskip("huggingface_hub", reason="needs the worker extra")

from soundfleet_producer.settings import Settings
from soundfleet_schemas import CATALOG, Backend, BackendStatus, ErrorCode, SoundfleetError
from soundfleet_worker.supervisor import installer as installing
from soundfleet_worker.supervisor import pulling
from soundfleet_worker.supervisor.installer import Installer
from soundfleet_worker.supervisor.keeper import Keeper

REPOSITORY = "adefossez/HTDemucs"
WEIGHTS = os.urandom(2_000_000)
NAME = "htdemucs"


class Engine:
    """What the installer sees of the keeper: backends, and an engine that finds files when it is told to look."""

    def __init__(self, cache: Path) -> None:
        self.backends = {name: Backend.of(CATALOG[name], BackendStatus.NotInstalled) for name in (NAME, "mdx")}
        self._cache = cache
        self.finds = True

        self.budget_mb = 0

    async def wait_ready(self) -> None:
        """It always is."""

    def look_again(self) -> None:
        """Find what is whole."""
        if self.finds and list(self._cache.rglob("955717e8.safetensors")):
            self.backends[NAME] = Backend.of(CATALOG[NAME], BackendStatus.Ready)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has htdemucs, and the environment that leads a process there."""
    files = {"htdemucs.yaml": b"models: ['955717e8']\n", "955717e8.safetensors": WEIGHTS}
    with serving({REPOSITORY: files}) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        yield served


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path / "hub")


Start = Callable[..., Installer]


@pytest.fixture
async def start(engine: Engine) -> AsyncIterator[Start]:
    """Makes installers, and closes them."""
    started: list[Installer] = []

    def make(**settings: Any) -> Installer:
        installer = Installer(cast(Keeper, engine), Settings(**settings), structlog.get_logger())
        started.append(installer)
        return installer

    yield make
    for installer in started:
        await installer.close()


def partial_sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.rglob("*.partial")]


def status(installer: Installer, name: str = NAME) -> Backend:
    """A backend as the worker publishes it."""
    return next(backend for backend in installer.view() if backend.backend == name)


async def until(predicate: Callable[[], object], what: str) -> None:
    """Wait in the event loop."""
    await asyncio.to_thread(wait_until, predicate, what)


async def test_several_runs_wait_for_one_download_and_its_percent_is_seen(hub: Hub, start: Start) -> None:
    """Nothing more is claimed for the model meanwhile; then the engine has it."""
    hub.slow = Event()
    installer = start()
    changes: list[tuple[BackendStatus, int | None]] = []
    installer.on_change = lambda: changes.append((status(installer).status, status(installer).percent))
    assert installer.offers(NAME)
    assert "soundfleet backends pull htdemucs" in str(status(installer).message)
    waiting = [asyncio.create_task(installer.ensure(NAME)) for _ in range(3)]
    await until(lambda: (status(installer).percent or 0) > 10, "some percent")
    assert status(installer).status is BackendStatus.Downloading
    assert "955717e8.safetensors" in str(status(installer).message)
    assert not installer.offers(NAME)
    assert not installer.has(NAME)
    assert not any(task.done() for task in waiting)
    hub.slow.set()
    await asyncio.gather(*waiting)
    assert installer.has(NAME)
    assert status(installer).status is BackendStatus.Ready
    assert hub.gets("955717e8.safetensors") == [0]
    assert (BackendStatus.Downloading, 100) in changes
    assert changes[-1][0] is BackendStatus.Ready


async def test_a_hub_that_is_away_is_an_error_for_a_while(hub: Hub, start: Start) -> None:
    """The job is not to blame, nothing is claimed for the model meanwhile, and then it is tried again."""
    hub.status = 503
    installer = start(pull_again_sec=0.5)
    with pytest.raises(SoundfleetError, match="503") as caught:
        await installer.ensure(NAME)
    assert caught.value.info.retryable
    assert (status(installer).status, installer.offers(NAME)) == (BackendStatus.Error, False)
    assert "503" in str(status(installer).message)
    with pytest.raises(SoundfleetError, match="503"):
        await installer.ensure(NAME)
    hub.status = 0
    await until(lambda: installer.offers(NAME), "the next attempt")
    assert status(installer).status is BackendStatus.NotInstalled
    await installer.ensure(NAME)
    assert status(installer).status is BackendStatus.Ready


async def test_wrong_bytes_are_the_jobs_error_too(hub: Hub, start: Start) -> None:
    """No worker can do better."""
    hub.wrong["955717e8.safetensors"] = bytes(len(WEIGHTS))
    with pytest.raises(SoundfleetError, match="wrong hash") as caught:
        await start().ensure(NAME)
    assert caught.value.code == ErrorCode.MODEL_LOAD_FAILED
    assert not caught.value.info.retryable


async def test_who_stops_waiting_does_not_stop_the_download(hub: Hub, start: Start) -> None:
    """Others may wait for it, and the next job will."""
    hub.slow = Event()
    installer = start()
    first, second = (asyncio.create_task(installer.ensure(NAME)) for _ in range(2))
    await until(lambda: (status(installer).percent or 0) > 10, "some percent")
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(first, 1)
    assert first.cancelled()
    hub.slow.set()
    await second
    assert hub.gets("955717e8.safetensors") == [0]


async def test_a_worker_that_leaves_ends_the_download_and_the_next_goes_on(
    hub: Hub, start: Start, engine: Engine, tmp_path: Path
) -> None:
    """Who waits is told at once, and nothing that came is lost."""
    hub.slow = Event()
    installer = start()
    waiting = asyncio.create_task(installer.ensure(NAME))
    await until(lambda: (status(installer).percent or 0) > 10, "some percent")
    await installer.close()
    with pytest.raises(SoundfleetError, match="shuts down") as caught:
        await waiting
    assert caught.value.info.retryable
    assert not installer.offers(NAME)
    with pytest.raises(SoundfleetError, match="shuts down"):
        await installer.ensure(NAME)
    hub.slow.set()
    (kept,) = partial_sizes(tmp_path)
    await start().ensure(NAME)
    assert hub.gets("955717e8.safetensors") == [0, kept]
    assert engine.backends[NAME].status is BackendStatus.Ready


async def test_two_workers_on_one_machine_share_a_download(hub: Hub, start: Start, tmp_path: Path) -> None:
    """One process fetches, the other waits at its lock; the files are right."""
    await asyncio.gather(*(start().ensure(NAME) for _ in range(2)))
    assert hub.gets("955717e8.safetensors") == [0]
    assert next((tmp_path / "hub").rglob("955717e8.safetensors")).read_bytes() == WEIGHTS


async def test_what_the_operator_names_is_pulled_before_any_job(hub: Hub, start: Start) -> None:
    """One that cannot be had keeps nobody from working."""
    installer = start(pull="mdx, htdemucs")
    await installer.fetch_ahead()
    assert status(installer).status is BackendStatus.Ready
    assert status(installer, "mdx").status is BackendStatus.Error
    assert hub.gets("955717e8.safetensors") == [0]


@pytest.mark.parametrize("name", ["htdemucs_mini", "htdemux"])
def test_a_name_that_no_hub_has_is_a_wrong_setting(start: Start, name: str) -> None:
    """Told when the worker starts."""
    with pytest.raises(SoundfleetError, match=f"pull names {name}") as caught:
        start(pull=name)
    assert caught.value.code == ErrorCode.INVALID_SETTING


async def test_offline_nothing_is_offered(start: Start) -> None:
    """The status is the engine's own, and a run goes on to the engine, which says why it cannot."""
    installer = start(offline=True)
    assert not installer.offers(NAME)
    assert installer.has(NAME)
    await installer.ensure(NAME)
    assert status(installer).status is BackendStatus.NotInstalled


async def test_files_that_the_engine_does_not_find_are_an_error(
    hub: Hub, start: Start, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than another download for every job."""
    monkeypatch.setattr(installing, "NOTICE_SEC", 0.2)
    engine.finds = False
    installer = start()
    with pytest.raises(SoundfleetError, match="the engine does not find it"):
        await installer.ensure(NAME)
    assert not installer.offers(NAME)
    assert hub.gets("955717e8.safetensors") == [0]


async def test_a_hub_that_falls_silent_does_not_hold_jobs_for_ever(
    hub: Hub, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is ended; what it has gathered stays."""
    monkeypatch.setattr(pulling, "QUIET_SEC", 4.0)
    hub.slow = Event()
    with pytest.raises(SoundfleetError, match="did not move for 4 s") as caught:
        await start().ensure(NAME)
    assert caught.value.info.retryable


async def test_a_process_that_dies_without_a_word_is_an_error(
    hub: Hub, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been short of memory: another attempt may do."""
    monkeypatch.setenv("PYTHONPATH", "/nonexistent")
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")
    with pytest.raises(SoundfleetError, match="ended with status") as caught:
        await start().ensure(NAME)
    assert caught.value.info.retryable
    assert hub.asked == []


async def test_a_model_that_may_not_be_pulled_is_not_offered(hub: Hub, start: Start, engine: Engine) -> None:
    """For its licence, or for want of memory; the status says what to do."""
    barred, installer = start(licences="MIT"), start()
    assert (barred.offers(NAME), installer.offers(NAME)) == (False, True)
    assert "SOUNDFLEET_LICENCES" in str(status(barred).message)
    engine.budget_mb = 1536
    assert not installer.offers(NAME)
    assert "SOUNDFLEET_MEMORY_MB" in str(status(installer).message)
    assert hub.asked == []
