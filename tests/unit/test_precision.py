"""A precision that the operator names acts on every family of models, or is refused by all of them alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="needs the worker extra")

from soundfleet_schemas import ErrorCode, Precision, SoundfleetError  # noqa: E402
from soundfleet_worker.ace_step import loading as ace_step  # noqa: E402
from soundfleet_worker.backends import precision as precisions  # noqa: E402
from soundfleet_worker.musicgen import precision as musicgen  # noqa: E402
from soundfleet_worker.separation import precision as separation  # noqa: E402

CPU = torch.device("cpu")
FAMILIES: dict[str, Callable[[Precision], object]] = {
    "musicgen": lambda wanted: musicgen.dtype_of(wanted, CPU),
    "ace_step": lambda wanted: ace_step.dtype_of(wanted, "cpu"),
    "demucs": lambda wanted: precisions.DTYPES[separation.choose(wanted, CPU, [])],
}
each_family = pytest.mark.parametrize("resolve", FAMILIES.values(), ids=FAMILIES)


@each_family
@pytest.mark.parametrize("wanted", [Precision.BFloat16, Precision.Float16])
def test_what_the_device_does_not_multiply_is_refused(
    resolve: Callable[[Precision], object], wanted: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would act, but many times slower than float32; the job is not lost, as another worker may do it."""
    monkeypatch.setattr(precisions, "_cpu_has", lambda _floats: False)
    with pytest.raises(SoundfleetError, match=f"precision is {wanted}, which cpu does not compute natively") as caught:
        resolve(wanted)
    assert caught.value.code is ErrorCode.BACKEND_NOT_READY
    assert caught.value.info.retryable
    assert caught.value.info.action == "Set SOUNDFLEET_PRECISION to auto or fp32 on that worker."


@each_family
@pytest.mark.parametrize("wanted", [Precision.Float32, Precision.BFloat16, Precision.Float16])
def test_what_the_device_multiplies_is_what_acts(
    resolve: Callable[[Precision], object], wanted: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was named."""
    monkeypatch.setattr(precisions, "_cpu_has", lambda _floats: True)
    assert resolve(wanted) == precisions.DTYPES[wanted]


@each_family
def test_auto_and_float32_are_never_refused(
    resolve: Callable[[Precision], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor that has nothing but them, both are float32."""
    monkeypatch.setattr(precisions, "_cpu_has", lambda _floats: False)
    assert resolve(Precision.Auto) == resolve(Precision.Float32) == torch.float32


def test_a_processor_has_what_linux_and_the_kernels_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both: an instruction without a kernel for it is of no use, and neither is a kernel that imitates it."""
    told = "processor\t: 0\nflags\t\t: fpu sse2 avx512_fp16 amx_int8\n"
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: told)
    monkeypatch.setattr(precisions, "packs", lambda _floats: True)
    assert (precisions.has_bfloat16(CPU), precisions.has_float16(CPU)) == (False, True)
    monkeypatch.setattr(precisions, "packs", lambda _floats: False)
    assert not precisions.has_float16(CPU)
