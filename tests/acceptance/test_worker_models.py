"""A worker brings a model here when a job needs it, while other jobs run; the hub on loopback meets its real client."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
from tests import media
from tests.fleet import Fleet
from tests.hub import Hub, serving
from tests.waiting import wait_until
from tests.workers import WorkerProcess

pytest.importorskip("torch", reason="needs the worker extra")
from tests.demucs_checkpoint import network, write_safetensors

from soundfleet_schemas import (
    Backend,
    BackendStatus,
    ErrorCode,
    EventType,
    JobStatus,
    SeparationRequest,
    StemSeparationOptions,
)

WEIGHTS = "955717e8.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small htdemucs with random weights, as it is published."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_safetensors(folder, network())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[Hub]:
    with serving({"adefossez/HTDemucs": dict(files)}) as served:
        yield served


Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(fleet: Fleet, hub: Hub, tmp_path: Path) -> Start:
    """Starts workers that may ask the hub, each with the machine's one cache."""

    def begin(**env: str) -> WorkerProcess:
        asks = {"SOUNDFLEET_ONLY": "generate.slow,separate.htdemucs", "SOUNDFLEET_OFFLINE": ""}
        return fleet.start(**{**asks, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), **env})

    return begin


@pytest.fixture
def song(tmp_path: Path) -> SeparationRequest:
    """A separation that needs htdemucs."""
    path = media.write(tmp_path / "song.wav", media.music(1.0))
    return SeparationRequest(source=str(path), options=StemSeparationOptions(model="htdemucs", shifts=0))


def standing(fleet: Fleet, worker: WorkerProcess) -> Backend:
    """htdemucs as a worker publishes it."""

    def published() -> Backend | None:
        for info in fleet.producer.workers():
            if info.id == worker.id and info.engine == "ready":
                return next(backend for backend in info.statuses if backend.backend == "htdemucs")
        return None

    backend = wait_until(published, "the worker's record")
    assert backend is not None
    return backend


def downloading(fleet: Fleet, worker: WorkerProcess) -> None:
    """Wait until a percentage of the download is published."""
    wait_until(
        lambda: (seen := standing(fleet, worker)).status is BackendStatus.Downloading and (seen.percent or 0) > 10,
        "the download's percentage",
    )


def test_the_first_job_brings_its_model_while_others_run(
    fleet: Fleet, hub: Hub, start: Start, song: SeparationRequest
) -> None:
    """Downloading with a percentage, the job in stage load, another job from begin to end; then all is as ever."""
    hub.slow = Event()
    worker = start()
    assert standing(fleet, worker).status is BackendStatus.NotInstalled
    job = fleet.submit(song)
    downloading(fleet, worker)
    assert fleet.completed(fleet.slow("steps=3 step_sec=0.05")).attempt == 1
    assert not fleet.producer.status(job).finished
    told = [event.progress for event in fleet.events(job) if event.progress is not None]
    assert [(update.stage, update.percent) for update in told[-2:]] == [("load", 0), ("load", 0)]
    assert 0 < told[-1].current_step < told[-1].total_steps
    hub.slow.set()
    done = fleet.completed(job)
    assert done.attempt == 1
    assert set(done.result.stems) == {"drums", "bass", "other", "vocals"}
    assert standing(fleet, worker).status is BackendStatus.Ready
    assert hub.gets(WEIGHTS) == [0]
    assert [event["backend"] for event in worker.events("model pulled")] == ["htdemucs"]


def test_a_job_that_waits_for_a_download_is_cancelled_at_once(
    fleet: Fleet, hub: Hub, start: Start, song: SeparationRequest
) -> None:
    """The download goes on: the next job finds the model."""
    hub.slow = Event()
    worker = start()
    job = fleet.submit(song)
    downloading(fleet, worker)
    fleet.producer.cancel(job)
    assert fleet.ended(job, 10).status is JobStatus.cancelled
    assert standing(fleet, worker).status is BackendStatus.Downloading
    hub.slow.set()
    wait_until(lambda: standing(fleet, worker).status is BackendStatus.Ready, "the model")


def test_a_worker_that_drains_hands_back_who_waits_for_a_download(
    fleet: Fleet, hub: Hub, start: Start, song: SeparationRequest
) -> None:
    """At once, and not after its grace of a minute; the next worker goes on with the download."""
    hub.slow = Event()
    worker = start()
    job = fleet.submit(song)
    downloading(fleet, worker)
    worker.send(signal.SIGTERM)
    assert worker.process.wait(15) == 0
    assert fleet.producer.status(job).status is JobStatus.processing
    assert EventType.requeued in fleet.told(job)
    hub.slow.set()
    start()
    fleet.completed(job)
    first, second = hub.gets(WEIGHTS)
    assert (first, second > 0) == (0, True)


def test_jobs_go_back_uncharged_while_the_hub_is_away(
    fleet: Fleet, hub: Hub, start: Start, song: SeparationRequest
) -> None:
    """The status says why; nothing is claimed for the model for a while; when the hub is back, all goes on."""
    hub.status = 503
    worker = start(SOUNDFLEET_PULL_AGAIN_SEC="2")
    job = fleet.submit(song)
    wait_until(lambda: standing(fleet, worker).status is BackendStatus.Error, "the error")
    assert "503" in str(standing(fleet, worker).message)
    assert fleet.completed(fleet.slow("steps=1")).attempt == 1
    hub.status = 0
    done = fleet.completed(job)
    assert done.attempt > 1
    assert EventType.retry not in fleet.told(job)
    why = next(event.error for event in fleet.events(job) if event.type is EventType.requeued)
    assert why is not None
    assert "503" in why.message, "who watches the job reads it, too"
    assert fleet.stack.redis.hget(fleet.stack.keys.job(job), "spared") == str(done.attempt - 1).encode()


def test_another_worker_that_has_the_model_takes_the_job(
    fleet: Fleet, hub: Hub, start: Start, song: SeparationRequest, files: dict[str, bytes], tmp_path: Path
) -> None:
    """The first one cannot get it and lets go."""
    hub.status = 503
    worker = start()
    job = fleet.submit(song)
    wait_until(lambda: worker.events("job handed back for want of a model"), "the job to be handed back")
    models = tmp_path / "models"
    models.mkdir()
    for name, body in files.items():
        (models / name).write_bytes(body)
    other = start(SOUNDFLEET_MODEL_DIR=str(models), HF_HOME=str(tmp_path / "elsewhere"))
    done = fleet.completed(job)
    assert (done.worker, done.attempt) == (other.id, 2)  # the first did not take it again and again meanwhile


def test_wrong_bytes_fail_the_job_for_good(fleet: Fleet, hub: Hub, start: Start, song: SeparationRequest) -> None:
    """No other worker would get better ones; the status says what to do."""
    hub.wrong[WEIGHTS] = bytes(len(hub.repositories["adefossez/HTDemucs"][WEIGHTS]))
    worker = start()
    job = fleet.ended(fleet.submit(song))
    assert (job.status, job.attempt) == (JobStatus.failed, 1)
    assert job.error is not None
    assert job.error.code == ErrorCode.MODEL_LOAD_FAILED
    assert "soundfleet backends pull htdemucs" in job.error.action
    assert standing(fleet, worker).status is BackendStatus.Error


def test_an_operator_has_models_pulled_before_any_job(fleet: Fleet, hub: Hub, start: Start) -> None:
    """As the worker starts."""
    worker = start(SOUNDFLEET_PULL="htdemucs")
    wait_until(lambda: standing(fleet, worker).status is BackendStatus.Ready, "the model")
    assert hub.gets(WEIGHTS) == [0]


def test_an_offline_worker_offers_only_what_it_has(fleet: Fleet, hub: Hub, start: Start) -> None:
    """And says what to do."""
    worker = start(SOUNDFLEET_OFFLINE="1")
    seen = standing(fleet, worker)
    assert seen.status is BackendStatus.NotInstalled
    assert "soundfleet backends pull htdemucs" in str(seen.message)
    assert [info.backends for info in fleet.producer.workers()] == [("slow",)]
    assert hub.asked == []
