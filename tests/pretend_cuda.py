"""A CUDA device for machines without one: tensors that say they are on it, computed on the CPU, under its rules.

Broken rules raise: an operation that mixes devices, a generator of another device, and while a graph is captured
whatever needs the host. A captured graph is the list of its operations; a replay does them again in the same memory,
and raises when that memory has been freed since. What kernels compute, and how fast, it cannot know.
"""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GIGABYTE = 1 << 30
CUDA, META = 1, 14
"""torch's numbers of its kinds of devices."""
COPIES = {"to", "_to_copy"}
INDEXED = {"index", "index_put_", "index_put", "_index_put_impl_"}
ANYWHERE = COPIES | INDEXED | {"copy_"}
"""Operations that take tensors of two devices: a copy, or an index that is copied."""
NEEDS_THE_HOST = {"item", "_local_scalar_dense", "nonzero", "nonzero_numpy", "masked_select", "is_nonzero", "equal"}
"""What waits for the device, because the host wants to know a value or a size."""


class OnDevice(torch.Tensor):
    """A tensor of the pretended device around one of the CPU."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> OnDevice:
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on the device after the device has gone")

    def tolist(self) -> Any:
        """Copy to the host; torch itself refuses it for classes that it does not know."""
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.dtype}, {tuple(self.shape)})"


class Device(TorchDispatchMode):
    """Does every operation on the CPU, and looks where its tensors say they are."""

    def __init__(self) -> None:
        super().__init__()
        # The place of fake tensors: torch then leaves the driver alone when a device is named.
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE
        self.capturing: Graph | None = None
        self.captured: list[Graph] = []
        self.waits: list[str] = []
        """The operations for which the host waited, to know a value, a size, or a tensor's content."""
        self._holders: dict[int, list[weakref.ref[OnDevice]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        ours = [tensor for tensor in given if isinstance(tensor, OnDevice)]
        where = _place(func, args, kwargs, ours)
        name = func._overloadpacket.__name__
        if name == "_has_compatible_shallow_copy_type":  # of a module's weights that move: never
            return False
        self._check(name, func, args, kwargs, given, ours, where)
        kwargs.pop("pin_memory", None)  # where a copy lies on the host is nothing that a CPU's build can choose
        real_args, real_kwargs = tree_map(_inner, (args, kwargs))
        made = func(*real_args, **real_kwargs)
        if name in COPIES and given[0].device.type != where.type:
            made = made.clone()
        if self.capturing is not None:
            self.capturing.record(func, real_args, real_kwargs, made)
        if where.type == "cpu":
            return made
        changed = {id(_inner(tensor)): tensor for tensor in given}
        return tree_map(lambda leaf: changed[id(leaf)] if id(leaf) in changed else self._wrap(leaf, where), made)

    def _wrap(self, leaf: Any, where: torch.device) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        with torch.inference_mode(leaf.is_inference()):  # a view of what is no tensor of inference is none either
            tensor = OnDevice(leaf.detach() if leaf.requires_grad else leaf, torch.device(where.type, where.index or 0))
        self._holders.setdefault(_memory(leaf), []).append(weakref.ref(tensor))
        return tensor

    def holds(self, inner: torch.Tensor) -> bool:
        """Whether any tensor on the device still has this memory."""
        return any(holder() is not None for holder in self._holders.get(_memory(inner), ()))

    def _check(
        self, name: str, func: Any, args: Any, kwargs: Any, given: list[Any], ours: list[Any], where: torch.device
    ) -> None:
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != where.type:
            raise AssertionError(f"{func} on {where} draws from a generator on {generator.device}")
        strangers = [tensor for tensor in given if not isinstance(tensor, OnDevice) and tensor.dim()]
        if ours and strangers and name not in ANYWHERE:
            raise AssertionError(f"{func} mixes devices: {_said(given)}")
        if name in INDEXED - {"index"} and ours and not isinstance(args[2], OnDevice) and args[2].dim():
            raise AssertionError(f"{func} takes its values from the cpu")
        masks = name in INDEXED and any(isinstance(t, torch.Tensor) and t.dtype == torch.bool for t in args[1])
        waits = bool(ours) and (name in NEEDS_THE_HOST or where.type == "cpu" or masks)
        self.waits += [f"{func} of {_said(given)}"] * waits
        if self.capturing is None:
            return
        if waits or (where.type == "cuda" and len(ours) < len(given)):
            raise AssertionError(f"{func} of {_said(given)} needs the host, in a graph")
        if not ours and where.type == "cpu":
            raise AssertionError(f"{func} of {_said(given)} is done once by the host, in a graph")


class Graph:
    """What ``torch.cuda.CUDAGraph`` is: operations and the memory that they were captured with."""

    _device: Device

    def __init__(self, **_: Any) -> None:
        self._operations: list[tuple[Any, Any, Any, Any]] = []
        self._outside: dict[int, torch.Tensor] = {}
        self._own: set[int] = set()
        self.replays = 0

    def record(self, func: Any, args: Any, kwargs: Any, made: Any) -> None:
        """Keep an operation, and which memory it did not take itself."""
        read = {_memory(t): t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for place, tensor in read.items():
            if place not in self._own:
                self._outside[place] = tensor
        fresh = [t for t in tree_leaves(made) if isinstance(t, torch.Tensor) and _memory(t) not in read]
        self._own.update(map(_memory, fresh))
        if fresh or func._schema.is_mutable:
            self._operations.append((func, args, kwargs, made))

    def replay(self) -> None:
        """Do it all again, in the same memory."""
        self.replays += 1
        for tensor in self._outside.values():
            assert self._device.holds(tensor), f"a graph reads memory that was freed: {tuple(tensor.shape)}"
        with torch._C._DisableTorchDispatch():
            for func, args, kwargs, made in self._operations:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and _memory(old) != _memory(new):
                        old.copy_(new)


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Work without the device for a while; decorates functions, too."""
    mode = torch._C._unset_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    try:
        yield
    finally:
        if mode is not None:
            torch._C._set_dispatch_mode(mode)


def _give_guard() -> None:
    """Let CUDA have the guard of meta tensors, which does nothing: a CPU's build has none, and an index asks for it."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * (META + 1)).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    guards[CUDA] = guards[CUDA] or guards[META]


def _place(func: Any, args: Any, kwargs: Any, ours: list[Any]) -> torch.device:
    """Where an operation leaves its result: on the device that it names, else on that of its tensors."""
    named = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
    if func._overloadname == "other":
        named = [args[1].device]
    return named[0] if named else ours[0].device if ours else torch.device("cpu")


def _inner(leaf: Any) -> Any:
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.inner if isinstance(leaf, OnDevice) else leaf


def _said(tensors: list[Any]) -> str:
    return ", ".join(f"{tuple(tensor.shape)} on {tensor.device}" for tensor in tensors)


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextlib.contextmanager
def _capture(device: Device, graph: Graph) -> Iterator[None]:
    assert device.capturing is None, "a graph is captured within another"
    device.capturing = graph
    try:
        yield
    finally:
        device.capturing = None
    device.captured.append(graph)


class Stream:
    """Streams and events have nothing to wait for."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def wait_stream(self, _stream: Any) -> None: ...

    def synchronize(self) -> None: ...

    def record(self, _stream: Any = None) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, _end: Stream) -> float:
        return 1.0


@contextlib.contextmanager
def _nothing(*_: Any, **__: Any) -> Iterator[None]:
    yield


@contextlib.contextmanager
def pretend_cuda(free_bytes: int = 100 * GIGABYTE) -> Iterator[Device]:
    """Let torch believe in ``cuda:0``, with so much memory free; leaves everything as it was."""
    _give_guard()
    device = Device()
    functions: dict[str, Callable[..., Any]] = {
        "Stream": Stream,
        "Event": Stream,
        "stream": _nothing,
        "device": _nothing,
        "CUDAGraph": type("CUDAGraph", (Graph,), {"_device": device}),
        "graph": lambda graph, **_: _capture(device, graph),
        "graph_pool_handle": lambda: (0, 0),
        "current_stream": lambda *_: Stream(),
        "synchronize": lambda *_: None,
        "mem_get_info": lambda *_: (free_bytes, 140 * GIGABYTE),
        "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: SimpleNamespace(total_memory=140 * GIGABYTE, multi_processor_count=132),
        "is_bf16_supported": lambda **_: True,
    }
    lifts = torch._C._only_lift_cpu_tensors()
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch:
        for name, function in functions.items():
            patch.setattr(torch.cuda, name, function)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.nn.attention, "sdpa_kernel", _nothing)  # which kernels the CPU has does not matter
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor() makes its tensor on the CPU, and copies it
        try:
            with device:
                yield device
        finally:
            torch._C._set_only_lift_cpu_tensors(lifts)
            torch.__future__.set_overwrite_module_params_on_conversion(before)
