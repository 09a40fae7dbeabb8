"""Which models a worker may pull for a job by itself."""

from __future__ import annotations

import pytest

from soundfleet_producer.settings import Settings
from soundfleet_schemas import CATALOG, ErrorCode, SoundfleetError
from soundfleet_worker.models import PUBLISHED
from soundfleet_worker.supervisor.permits import Permits


def barred(budget_mb: int = 0, **settings: str) -> set[str]:
    """The published models that a worker with these settings leaves on the hub."""
    permits = Permits(Settings(**settings))
    return {name for name in PUBLISHED if permits.bar(name, budget_mb) is not None}


def licensed(word: str) -> set[str]:
    return {name for name in PUBLISHED if word in CATALOG[name].licence}


def test_weights_that_are_not_for_commerce_wait_for_the_operators_word() -> None:
    """Nobody has agreed to their terms by starting a worker; the message says how to."""
    assert barred() == licensed("-NC-") != set()
    why = Permits(Settings()).bar("musicgen", 0)
    assert why is not None
    assert "CC-BY-NC-4.0" in why
    assert "SOUNDFLEET_LICENCES" in why
    assert "soundfleet backends pull musicgen" in why


def test_the_operator_says_which_licences_are_accepted() -> None:
    """As `soundfleet backends` writes them, in any case; an asterisk is all."""
    assert barred(licences="*") == set()
    assert barred(licences="mit") == set(PUBLISHED) - licensed("MIT")
    assert barred(licences="cc-by-nc-4.0, For scientific purposes") == licensed("MIT")
    assert barred(licences="for scientific purposes (the author's words)") == set(PUBLISHED) - licensed("scientific")


def test_a_model_that_the_operator_names_is_asked_for() -> None:
    """To pull, or to serve."""
    assert "musicgen" not in barred(pull="musicgen")
    assert "musicgen" not in barred(only="generate.musicgen,fetch.web")
    assert "htdemucs_ft" not in barred(1024, licences="MIT", only="separate.htdemucs_ft")


def test_a_model_that_never_fits_is_not_pulled() -> None:
    """Gigabytes would come, and every job would fail for want of memory; an unknown budget bars nothing."""
    assert barred(2048, licences="*") == {name for name in PUBLISHED if CATALOG[name].memory_mb > 2048} != set()
    why = Permits(Settings()).bar("htdemucs", 1536)
    assert why == "it needs 2,048 MB, and the engine's budget is 1,536 MB: SOUNDFLEET_MEMORY_MB"


@pytest.mark.parametrize("licences", ["GPL-3.0", "MIT;CC-BY-NC-4.0"])
def test_a_licence_that_no_model_has_is_a_wrong_setting(licences: str) -> None:
    """Told when the worker starts, with those that there are."""
    with pytest.raises(SoundfleetError, match=r"there are cc-by-nc-4\.0, for scientific purposes, mit") as caught:
        Permits(Settings(licences=licences))
    assert caught.value.code is ErrorCode.INVALID_SETTING
