"""The engine's small parts: the channel, the device, the configuration, and what exceptions mean."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from soundfleet_schemas import ErrorCode, ErrorInfo, SoundfleetError, error
from soundfleet_worker.engine.channel import CONGESTED_BYTES, Channel
from soundfleet_worker.engine.config import EngineConfig, read_config
from soundfleet_worker.engine.devices import MEGABYTE, budget_bytes, choose_device, take_device
from soundfleet_worker.engine.faults import describe, is_out_of_memory, is_poison, trace
from soundfleet_worker.engine.wire import FROM_ENGINE, HEADER, Cancel, Failed, frame

Pair = tuple[Channel, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """An engine's channel and the supervisor's end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), theirs


def test_messages_arrive_whole_however_they_are_cut(pair: Pair) -> None:
    """A frame may come byte by byte, or many in one piece."""
    channel, theirs = pair
    raw = b"".join(frame(Cancel(run=name)) for name in "abc")
    got = []
    for index in range(len(raw)):
        theirs.send(raw[index : index + 1])
        got += channel.receive()
    theirs.sendall(raw * 1000)
    while len(got) < 3003:
        got += channel.receive()
    assert [message.run for message in got[:4]] == ["a", "b", "c", "a"]
    assert channel.receive() == []
    assert not channel.closed


def test_a_closed_end_is_noticed_after_the_last_message(pair: Pair) -> None:
    """What was sent before is still delivered."""
    channel, theirs = pair
    theirs.sendall(frame(Cancel(run="a")))
    theirs.close()
    assert [message.run for message in channel.receive()] == ["a"]
    channel.receive()
    assert channel.closed


def test_a_supervisor_that_does_not_read_congests_the_channel(pair: Pair) -> None:
    """Nothing is lost meanwhile, and the order stays."""
    channel, theirs = pair
    info = error(ErrorCode.INTERNAL_ERROR, "x").info
    count = 0
    while not channel.congested:
        channel.send(Failed(run=str(count), error=info, detail="y" * 10_000))
        channel.flush()
        count += 1
    received = bytearray()
    theirs.settimeout(10)
    runs: list[str] = []
    while len(runs) < count:
        channel.flush()
        received += theirs.recv(CONGESTED_BYTES)
        while len(received) >= 4 and len(received) >= (end := 4 + HEADER.unpack_from(received)[0]):
            message = FROM_ENGINE.decode(bytes(received[4:end]))
            assert isinstance(message, Failed)
            runs.append(message.run)
            del received[:end]
    assert runs == [str(index) for index in range(count)]
    assert not channel.congested


def test_a_message_to_nobody_is_dropped(pair: Pair) -> None:
    """The channel is closed, and says so."""
    channel, theirs = pair
    theirs.close()
    channel.send(Failed(run="a", error=error(ErrorCode.INTERNAL_ERROR, "x").info))
    channel.flush()
    channel.drain(1)
    assert channel.closed


def test_the_configuration_is_read_strictly() -> None:
    """A field that would not act is an error."""
    assert read_config('{"threads": 2, "only": ["generate.sketch"]}') == EngineConfig(
        threads=2, only=("generate.sketch",)
    )
    for text in ('{"thread": 2}', '{"threads": "two"}', "{"):
        with pytest.raises(SoundfleetError) as caught:
            read_config(text)
        assert caught.value.code == ErrorCode.INVALID_SETTING


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    """With what may be given instead, or how many there are."""
    with pytest.raises(SoundfleetError) as caught:
        choose_device(name)
    assert caught.value.code == ErrorCode.INVALID_SETTING


def test_the_memory_budget_is_what_was_set_or_a_share() -> None:
    """Of this machine's memory on the CPU."""
    assert choose_device("cpu") == "cpu"
    assert budget_bytes("cpu", 100) == 100 * MEGABYTE
    assert budget_bytes("cpu", 0) > 100 * MEGABYTE


def test_the_budget_of_a_gpu_leaves_other_processes_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three quarters of an empty one, else most of what is free."""
    torch = pytest.importorskip("torch", reason="needs the worker extra")
    for free, budget in ((140, 105), (20, 18)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device, free=free: (free << 30, 140 << 30))
        assert budget_bytes("cuda:0", 0) == budget << 30


def test_a_device_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line; a CPU is always there."""
    torch = pytest.importorskip("torch", reason="needs the worker extra")

    def busy(_device: str) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCompile with ...")

    monkeypatch.setattr(torch.cuda, "set_device", busy)
    take_device("cpu")
    with pytest.raises(SoundfleetError) as caught:
        take_device("cuda:1")
    assert caught.value.code == ErrorCode.DEVICE_FAILED
    assert caught.value.info.message.splitlines() == [
        "cuda:1 cannot be used: CUDA error: all CUDA-capable devices are busy or unavailable."
    ]


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (error(ErrorCode.AUDIO_EMPTY, "nothing"), ErrorCode.AUDIO_EMPTY),
        (MemoryError(), ErrorCode.OUT_OF_MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), ErrorCode.OUT_OF_MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), ErrorCode.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling cublasCreate"), ErrorCode.OUT_OF_MEMORY),
        (RuntimeError("GET was unable to find an engine to execute this computation"), ErrorCode.OUT_OF_MEMORY),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), ErrorCode.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), ErrorCode.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: device-side assert triggered"), ErrorCode.DEVICE_FAILED),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), ErrorCode.DEVICE_FAILED),
        (RuntimeError("CUDA driver initialization failed"), ErrorCode.DEVICE_FAILED),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), ErrorCode.DEVICE_FAILED),
        (RuntimeError("shape mismatch"), ErrorCode.MODEL_INFERENCE_FAILED),
        (ValueError("out of memory is only a word here"), ErrorCode.MODEL_INFERENCE_FAILED),
        (KeyError(), ErrorCode.MODEL_INFERENCE_FAILED),
    ],
)
def test_an_exception_has_one_meaning(exc: Exception, code: ErrorCode) -> None:
    """By its type, or by the words that the libraries use."""
    info = describe(exc, ErrorCode.MODEL_INFERENCE_FAILED)
    assert isinstance(info, ErrorInfo)
    assert info.code == code
    assert is_out_of_memory(exc) == (code == ErrorCode.OUT_OF_MEMORY)


def test_only_some_device_errors_end_the_process() -> None:
    """Those after which every further call fails."""
    assert is_poison(RuntimeError("CUDA error: unspecified launch failure"))
    assert not is_poison(RuntimeError("CUDA driver initialization failed"))
    assert not is_poison(RuntimeError("CUDA out of memory"))


def raised(top: Exception, below: Exception) -> Exception:
    """An exception that was raised while another was handled."""
    top.__context__ = below
    return top


def test_a_broken_device_is_known_behind_other_errors() -> None:
    """By its number, too, whatever a library has made of it."""
    numbered = RuntimeError("CUDA error: ?")
    numbered.error_code = 700  # type: ignore[attr-defined]  # as torch.AcceleratorError has it
    assert is_poison(numbered)
    unusable = raised(error(ErrorCode.MODEL_LOAD_FAILED, "the files cannot be used"), numbered)
    assert is_poison(unusable)
    assert describe(unusable, ErrorCode.INTERNAL_ERROR).code == ErrorCode.DEVICE_FAILED


def test_memory_that_ran_out_in_a_graph_is_known_behind_the_graphs_own_error() -> None:
    """To end the capture is then an error, too; by itself it says nothing of memory."""
    capture = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    assert not is_out_of_memory(capture)
    assert is_out_of_memory(raised(capture, RuntimeError("CUDA out of memory")))
    assert not is_out_of_memory(raised(RuntimeError("shape mismatch"), RuntimeError("CUDA out of memory")))


def test_torchs_own_out_of_memory_is_known() -> None:
    """By its class, whatever it says."""
    torch = pytest.importorskip("torch", reason="needs the worker extra")
    assert is_out_of_memory(torch.OutOfMemoryError("?"))


def test_only_the_unexpected_leaves_a_traceback() -> None:
    """An error raised on purpose has said it all."""
    assert trace(error(ErrorCode.AUDIO_EMPTY, "nothing")) == ""
    assert "ZeroDivisionError" in trace(ZeroDivisionError("x"))
