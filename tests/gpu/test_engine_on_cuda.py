"""The engine on a real GPU, as a process: memory that runs out, a context that breaks, a device that others use too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fleet import Fleet
from tests.unit.test_engine_process import Child
from tests.workers import ROOT

from soundfleet_producer.client import Producer
from soundfleet_schemas import ErrorCode, GenerationRequest, JobStatus, encode
from soundfleet_worker.engine.config import EngineConfig
from soundfleet_worker.engine.devices import MEGABYTE, SHARE, SHARE_OF_FREE
from soundfleet_worker.engine.wire import EXIT_POISONED, Failed, Finished, Progress, Ready

torch = pytest.importorskip("torch", reason="needs the worker extra")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

from tests.gpu import cuda_backend  # noqa: E402
from tests.stacks import Stack  # noqa: E402
from tests.workers import workers  # noqa: E402

FOREIGN = "tests.gpu.cuda_backend:make"
SERVICES = ("generate.trial", "generate.hog", "generate.other_hog")
CONFIG = EngineConfig(device="cuda:0", foreign=FOREIGN, only=SERVICES)
SUM = 999 * 1000 / 2
Engines = Callable[[], Child]


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engines]:
    """Spawns engines that have said that they are ready; none outlives the test."""
    monkeypatch.chdir(ROOT)  # where the backend is imported from
    children: list[Child] = []

    def spawn() -> Child:
        children.append(Child(CONFIG, tmp_path))
        children[-1].hear(Ready, timeout=120)
        return children[-1]

    yield spawn
    for child in children:
        child.close()
    torch.cuda.empty_cache()


def ready(child: Child) -> Ready:
    """Its first word."""
    return next(message for message in child.heard if isinstance(message, Ready))


def test_the_budget_is_of_what_others_have_left(engines: Engines) -> None:
    """Three quarters of an empty device; less when another process is on it."""
    total = torch.cuda.mem_get_info(0)[1]
    alone = ready(engines()).budget_mb
    assert 0 < alone <= SHARE * total / MEGABYTE
    held = torch.empty(int(0.6 * torch.cuda.mem_get_info(0)[0]), dtype=torch.uint8, device="cuda:0")
    beside = ready(engines()).budget_mb
    del held
    assert beside <= SHARE_OF_FREE * 0.4 * total / MEGABYTE + 1
    assert beside < alone


def test_a_launch_that_does_not_fit_is_repeated_smaller(engines: Engines) -> None:
    """Real memory runs out twice, and the run that needed it ends well, as does its neighbour."""
    engine = engines()
    engine.send(engine.start("large", "large 3"), engine.start("beside", "sum 5"))
    ends = {end.run: end for end in (engine.hear(Finished), engine.hear(Finished))}
    assert not [message for message in engine.heard if isinstance(message, Failed)]
    assert ends["large"].parameters["slots"] < cuda_backend.SLOTS // 2
    assert {end.parameters["sum"] for end in ends.values()} == {SUM}


def test_a_model_that_does_not_fit_beside_a_warm_one_takes_its_place(engines: Engines) -> None:
    """Though neither has told how large it is: memory runs out in the load, and the idle one goes."""
    engine = engines()
    for name, backend in (("a", "hog"), ("b", "other_hog"), ("c", "hog")):
        engine.send(engine.start(name, "sum", backend=backend))
        assert engine.hear(Finished, name, timeout=120).parameters["sum"] == SUM


def test_a_device_side_assert_ends_the_process_and_the_next_one_works(engines: Engines) -> None:
    """Every run in the launch is told of, and the device is not lost to a new context."""
    engine = engines()
    engine.send(engine.start("good", "sum 100000"))
    engine.hear(Progress, "good")
    engine.send(engine.start("bad", "assert"))
    failed = engine.hear(Failed, "bad")
    assert (failed.poisoned, failed.error.code) == (True, ErrorCode.DEVICE_FAILED)
    assert engine.end()[0] == EXIT_POISONED
    another = engines()
    another.send(another.start("again", "sum 10"))
    assert another.hear(Finished, "again").parameters["sum"] == SUM


@pytest.fixture
def fleet(stack: Stack) -> Iterator[Fleet]:
    """A client, and workers on the device."""
    spec = cuda_backend.CudaFactory("trial").spec
    stack.redis.hset(stack.keys.backends, spec.backend, encode(spec))
    with Producer(stack.settings, stack.storage) as producer, workers(stack) as start:
        yield Fleet(stack, producer, start)


@pytest.mark.timeout(300)
def test_a_job_that_breaks_the_device_fails_alone(fleet: Fleet) -> None:
    """In a real worker: the engine is replaced each time; the job beside it begins again, uncharged, and completes."""
    worker = fleet.start(SOUNDFLEET_DEVICE="cuda", SOUNDFLEET_BACKENDS=FOREIGN, SOUNDFLEET_ONLY="generate.trial")
    good, bad = (
        fleet.producer.submit(GenerationRequest(prompt=prompt, duration_sec=5, backend="trial")).id
        for prompt in ("sum 2000", "assert")
    )
    ended = fleet.ended(bad, timeout=100)
    assert (ended.status, ended.error.code) == (JobStatus.failed, ErrorCode.DEVICE_FAILED)
    assert fleet.completed(good, timeout=60).attempt == 1
    assert len(worker.events("engine ready")) > 1
