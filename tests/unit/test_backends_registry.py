"""Which backends an engine has, and what happens to specifications that are wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from soundfleet_schemas import CATALOG, BackendStatus, ErrorCode, SoundfleetError
from soundfleet_worker.backends.contract import ModelConfig
from soundfleet_worker.backends.registry import REGISTRY, build


@pytest.fixture(autouse=True)
def trial_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets ``trial_backend`` be imported by its name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_every_own_backend_is_in_the_catalogue_and_can_be_made() -> None:
    """Making a factory loads nothing; its status can be asked at once."""
    factories = build(source=ModelConfig(offline=True))
    assert set(factories) == set(REGISTRY) <= set(CATALOG)
    for name, factory in factories.items():
        status, reason = factory.status()
        assert factory.spec is CATALOG[name]
        assert (status is BackendStatus.Ready) == (reason is None)


def test_backends_that_need_no_download_are_ready() -> None:
    """So that everything works offline."""
    factories = build(only=("generate.sketch", "separate.htdemucs_mini"))
    assert list(factories) == ["sketch", "htdemucs_mini"]
    assert {factory.status() for factory in factories.values()} == {(BackendStatus.Ready, None)}


def test_foreign_backends_come_along() -> None:
    """A factory may bring one or several; ``only`` names them as it names the project's own."""
    assert {"trial", "sketch"} <= set(build("trial_backend:make"))
    assert {"trial", "trial_two"} <= set(build(" trial_backend:make_two, "))
    assert list(build("trial_backend:make_two", only=("generate.trial_two",))) == ["trial_two"]


@pytest.mark.parametrize(
    ("foreign", "code"),
    [
        ("nonsense", ErrorCode.INVALID_SETTING),
        ("no_such_module:make", ErrorCode.INVALID_SETTING),
        ("trial_backend:no_such_name", ErrorCode.INVALID_SETTING),
        ("trial_backend:not_callable", ErrorCode.INVALID_SETTING),
        ("trial_backend:make_trouble", ErrorCode.INVALID_SETTING),
        ("trial_backend:make_nothing", ErrorCode.INVALID_BACKEND),
        ("trial_backend:make_taken", ErrorCode.INVALID_BACKEND),
        ("trial_backend:make,trial_backend:make", ErrorCode.INVALID_BACKEND),
    ],
)
def test_a_wrong_specification_names_itself(foreign: str, code: ErrorCode) -> None:
    """The operator sees which of them it is."""
    with pytest.raises(SoundfleetError) as caught:
        build(foreign)
    assert caught.value.code == code
    assert foreign.split(",")[-1] in str(caught.value)


def test_an_unknown_service_is_refused() -> None:
    """A worker that would serve nothing must not start."""
    with pytest.raises(SoundfleetError, match=r"generate\.nothing") as caught:
        build(only=("generate.nothing",))
    assert caught.value.code == ErrorCode.INVALID_BACKEND


def test_making_factories_imports_nothing_heavy() -> None:
    """Torch comes with the first model that needs it."""
    import subprocess

    script = (
        "import sys; from soundfleet_worker.backends.registry import build; [f.status() for f in build().values()];"
    )
    script += "print([m for m in ('torch', 'demucs', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
