"""Settings: variables over a file over defaults, and nothing misspelt is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundfleet_producer.settings import Settings
from soundfleet_schemas import ErrorCode, SettingsError


def _file(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "soundfleet.toml"
    path.write_text(text)
    return {"SOUNDFLEET_CONFIG": str(path)}


def test_without_anything_the_defaults_hold() -> None:
    """A local Redis, the default namespace, the data model's limits."""
    settings = Settings.load({})
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.namespace == "soundfleet"
    assert settings.limits.max_attempts == 3


def test_variables_are_read_with_their_types() -> None:
    """Numbers, switches and limits are written as text and read as what they are."""
    settings = Settings.load(
        {
            "SOUNDFLEET_SLOTS": "8",
            "SOUNDFLEET_GRACE_SEC": "2.5",
            "SOUNDFLEET_OFFLINE": "true",
            "SOUNDFLEET_ACE_STEP_DEFAULT_SCHEDULER": "heun",
            "SOUNDFLEET_LIMITS_MAX_PENDING": "5",
            "SOUNDFLEET_LIMITS_INPUT_FORMATS": "mp3, wav",
        }
    )
    assert (settings.slots, settings.grace_sec, settings.offline) == (8, 2.5, True)
    assert settings.ace_step_default_scheduler == "heun"
    assert settings.limits.max_pending == 5
    assert settings.limits.accepted == ("mp3", "wav")


def test_a_variable_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    """Each setting for itself; limits too."""
    env = _file(tmp_path, 'namespace = "file"\nslots = 2\n[limits]\nmax_attempts = 5\nmax_crashes = 4\n')
    settings = Settings.load(env | {"SOUNDFLEET_SLOTS": "8", "SOUNDFLEET_LIMITS_MAX_ATTEMPTS": "7"})
    assert (settings.namespace, settings.slots) == ("file", 8)
    assert (settings.limits.max_attempts, settings.limits.max_crashes) == (7, 4)


def test_an_empty_variable_is_an_unset_one() -> None:
    """Compose files pass variables on whether they are set or not."""
    assert Settings.load({"SOUNDFLEET_BUCKET": "", "SOUNDFLEET_CLIENT": ""}) == Settings()


@pytest.mark.parametrize("name", ["SOUNDFLEET_BUKET", "SOUNDFLEET_LIMITS_MAX_PENDNG", "SOUNDFLEET_LIMITS"])
def test_an_unknown_variable_is_an_error_that_names_it(name: str) -> None:
    """A misspelt setting would silently not act."""
    with pytest.raises(SettingsError, match=name) as caught:
        Settings.load({name: "x"})
    assert caught.value.code is ErrorCode.INVALID_SETTING


def test_a_near_miss_is_told_what_was_meant() -> None:
    """The message names the nearest setting."""
    with pytest.raises(SettingsError, match=r"is it SOUNDFLEET_BUCKET\?"):
        Settings.load({"SOUNDFLEET_BUKET": "x"})


@pytest.mark.parametrize("text", ["buket = 'x'", "[limits]\nmax_pendng = 1"])
def test_an_unknown_name_in_the_file_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    """The file is held to the same rule."""
    with pytest.raises(SettingsError, match=r"there is no setting (buket|limits.max_pendng)"):
        Settings.load(_file(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLOTS", "many"),
        ("SLOTS", "0"),
        ("GRACE_SEC", "-1"),
        ("OFFLINE", "perhaps"),
        ("ACE_STEP_DEFAULT_SCHEDULER", "runge"),
        ("LIMITS_LEASE_SEC", "long"),
        ("LIMITS_INPUT_FORMATS", "wma"),
    ],
)
def test_a_value_that_cannot_be_is_an_error_that_names_its_field(name: str, value: str) -> None:
    """The message says where."""
    with pytest.raises(SettingsError, match=name.removeprefix("LIMITS_").lower()):
        Settings.load({f"SOUNDFLEET_{name}": value})


@pytest.mark.parametrize("text", [None, "no toml = = =", "limits = 3"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, text: str | None) -> None:
    """It was asked for, so it is not passed over."""
    path = tmp_path / "soundfleet.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=r"soundfleet\.toml"):
        Settings.load({}, str(path))


def test_the_variables_of_a_kubernetes_service_are_no_settings() -> None:
    """A service called soundfleet-redis puts these into every container of its namespace."""
    env = {
        "SOUNDFLEET_REDIS_SERVICE_HOST": "10.0.0.1",
        "SOUNDFLEET_REDIS_SERVICE_PORT_REDIS": "6379",
        "SOUNDFLEET_REDIS_PORT": "tcp://10.0.0.1:6379",
        "SOUNDFLEET_REDIS_PORT_6379_TCP_ADDR": "10.0.0.1",
    }
    assert Settings.load(env) == Settings()


def test_what_is_not_ours_is_left_alone() -> None:
    """The environment is full of other people's variables."""
    assert Settings.load({"PATH": "/bin", "AWS_REGION": "x"}) == Settings()
