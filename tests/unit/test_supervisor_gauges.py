"""What the engine takes while a run is in it: its own peak of memory, and the device's use where a driver tells."""

# ruff: noqa: N802 - the names of a stand-in are those of the library that it stands for

from __future__ import annotations

import gc
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from soundfleet_worker.supervisor import gauges as module
from soundfleet_worker.supervisor.duties.sampler import Sampler
from soundfleet_worker.supervisor.gauges import Gauges, PeakMemory, Reading, Usage
from soundfleet_worker.supervisor.nvml import Nvml

MB = 1 << 20
EATER = """
import sys
for line in sys.stdin:
    block = bytearray(int(line) << 20)
    block[::4096] = b"x" * len(block[::4096])
    del block
    print("eaten", flush=True)
"""


class NVMLError(Exception):
    """As the driver's library raises it."""


class Library:
    """Stands for ``pynvml``: two devices, and what is wrong with them."""

    NVMLError = NVMLError

    def __init__(self, *, driver: bool = True, sliced: bool = False) -> None:
        self.driver, self.sliced, self.opened = driver, sliced, 0
        self.asked: list[Any] = []

    def nvmlInit(self) -> None:
        self.opened += 1
        if not self.driver:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        self.asked.append(index)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        self.asked.append(uuid)
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        return SimpleNamespace(used=(handle + 1) * 1000 * MB)

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        if self.sliced:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=50 + handle)


def read(library: Library, device: str = "cuda", **environment: str) -> tuple[float | None, int | None]:
    return Nvml(lambda: library, environment).read(device)


def missing() -> Any:
    """A machine without the library."""
    raise ImportError("No module named 'pynvml'")


def test_a_device_is_read_by_torchs_name_of_it() -> None:
    """The second is the second."""
    assert read(Library()) == (0.5, 1000)
    assert read(Library(), "cuda:1") == (0.51, 2000)


def test_what_torch_counts_is_what_is_visible() -> None:
    """Numbers and names of CUDA_VISIBLE_DEVICES."""
    library = Library()
    assert read(library, "cuda:0", CUDA_VISIBLE_DEVICES="1,0") == (0.51, 2000)
    read(library, "cuda:1", CUDA_VISIBLE_DEVICES="0, GPU-5a6b")
    read(library, "cuda:1", CUDA_VISIBLE_DEVICES="")
    assert library.asked == [1, "GPU-5a6b", 1]


def test_a_machine_without_a_driver_says_nothing_and_is_not_asked_again() -> None:
    """No library, no driver, no GPU: never an error."""
    library = Library(driver=False)
    nvml = Nvml(lambda: library, {})
    assert [nvml.read("cuda"), nvml.read("cuda")] == [(None, None), (None, None)]
    assert library.opened == 1
    assert Nvml(missing, {}).read("cuda:0") == (None, None)
    assert Nvml(missing, {}).read("cpu") == (None, None)
    assert Nvml(environment={}).read("cuda:0") in [(None, None), pytest.approx((0.5, 50_000), abs=100_000)]


def test_a_slice_of_a_device_tells_its_memory_only() -> None:
    """Its use is not known; a driver that fails once is asked again."""
    library = Library(sliced=True)
    nvml = Nvml(lambda: library, {})
    assert nvml.read("cuda") == (None, 1000)
    library.sliced = False
    assert nvml.read("cuda") == (0.5, 1000)


def gauges(nvml: Nvml | None = None, device: str = "cuda") -> Gauges:
    return Gauges(os.getpid, lambda: device, nvml or Nvml(Library, {}))


async def test_a_run_is_told_the_mean_of_what_was_read_while_it_was_there() -> None:
    """And the most memory; another run, another mean."""
    watched = gauges()
    first = watched.begin()
    watched.take(Reading(0.2, 700))
    second = watched.begin()
    watched.take(Reading(0.6, 900))
    watched.end(first)
    watched.take(Reading(1.0, 800))
    watched.end(second)
    assert (first.gpu_usage, first.gpu_memory_mb) == (0.4, 900)
    assert (second.gpu_usage, second.gpu_memory_mb) == (0.8, 900)
    assert first.memory_mb > 5
    assert not watched.watched


async def test_a_run_shorter_than_a_pause_gets_the_last_reading() -> None:
    """A song takes less than a second on a large device."""
    watched = gauges()
    long = watched.begin()
    await Sampler(watched).tick()
    short = watched.begin()
    watched.end(short)
    watched.end(long)
    assert (short.gpu_usage, short.gpu_memory_mb) == (0.5, 1000)


async def test_nobody_is_asked_while_no_run_is_in_the_engine() -> None:
    """Nor for a run that failed and was forgotten."""
    library = Library()
    watched = gauges(Nvml(lambda: library, {}))
    await Sampler(watched).tick()
    usage: Usage | None = watched.begin()
    assert usage is not None
    del usage
    gc.collect()
    await Sampler(watched).tick()
    assert library.opened == 0


async def test_on_a_cpu_there_is_no_gpu_to_speak_of() -> None:
    """None, not zero."""
    watched = gauges(device="cpu")
    usage = watched.begin()
    await Sampler(watched).tick()
    watched.end(usage)
    assert (usage.gpu_usage, usage.gpu_memory_mb) == (None, None)


@pytest.fixture
def eater() -> Any:
    """A process that takes as many MB as it is told, for a moment."""
    with subprocess.Popen([sys.executable, "-c", EATER], stdin=-1, stdout=-1, text=True) as process:
        yield process
        process.stdin.close()
        process.wait(10)


def eat(process: Any, megabytes: int) -> None:
    process.stdin.write(f"{megabytes}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "eaten\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_peak_is_of_the_time_since_the_last_reading(eater: Any) -> None:
    """A feast before the run is not on its bill."""
    memory = PeakMemory(lambda: eater.pid)
    eat(eater, 300)
    assert memory.read_mb() > 300
    eat(eater, 100)
    assert 100 < memory.read_mb() < 250
    assert memory.read_mb() < 100


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_where_the_peak_cannot_be_reset_a_higher_one_still_counts(eater: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lower one cannot be seen: then it is the memory at the moment of reading."""
    monkeypatch.setattr(module, "_RESET_PEAK", "0")  # which the kernel refuses
    memory = PeakMemory(lambda: eater.pid)
    memory.read_mb()
    eat(eater, 200)
    assert memory.read_mb() > 200
    eat(eater, 100)
    assert memory.read_mb() < 100


def test_a_process_that_is_gone_has_no_memory() -> None:
    """Between two engines."""
    assert PeakMemory(lambda: None).read_mb() == 0
    assert PeakMemory(lambda: 2**22 + 1).read_mb() == 0
