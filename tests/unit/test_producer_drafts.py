"""From a request to what is queued: complete, checked, and the same whenever it is done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from soundfleet_producer.drafts import SEED_BITS, check, finish, seed_of
from soundfleet_producer.estimate import estimate_sec
from soundfleet_producer.settings import Settings
from soundfleet_schemas import (
    CATALOG,
    BackendSpec,
    GenerationRequest,
    InvalidRequest,
    JobSource,
    Quality,
    S3Source,
    SchedulerType,
    SeparationRequest,
    StemSeparationOptions,
    UploadSource,
    YouTubeSource,
    encode,
    new_id,
)

SETTINGS = Settings(default_backend="sketch")
MINI = StemSeparationOptions(model="htdemucs_mini")
UPLOAD = UploadSource(key="uploads/" + "a" * 64 + ".wav", sha256="a" * 64, size_bytes=1_764_000)


def _generation(settings: Settings = SETTINGS, **fields: Any) -> GenerationRequest:
    request = check(GenerationRequest(**({"prompt": "lofi", "duration_sec": 30} | fields)), settings, {}).request
    assert isinstance(request, GenerationRequest)
    return request


def test_a_request_is_completed_the_same_way_every_time() -> None:
    """Submitting again is the same message, byte for byte."""
    request = GenerationRequest(prompt="lofi", duration_sec=30)
    first, second = (finish(check(request, SETTINGS, {}), {}) for _ in range(2))
    assert encode(first.request) == encode(second.request)
    assert first.fingerprint == second.fingerprint


def test_a_complete_request_stays_what_it_is() -> None:
    """Completing twice changes nothing: a redrive sends what was sent."""
    once = _generation(SETTINGS)
    assert check(once, SETTINGS, {}).request == once


def test_drawn_seeds_differ_between_jobs_and_fit_a_double() -> None:
    """Every JSON reader keeps them exact."""
    seeds = {seed_of(new_id()) for _ in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**SEED_BITS for seed in seeds)
    assert max(seeds).bit_length() > SEED_BITS - 8


def test_a_seed_of_zero_is_a_seed() -> None:
    """It is not taken for a missing one."""
    assert _generation(seed=0).seed == 0


def test_the_settings_name_the_client_unless_the_request_does() -> None:
    """Limits are counted by it."""
    settings = msgspec.structs.replace(SETTINGS, client="radio")
    assert _generation(settings).client == "radio"
    assert _generation(settings, client="guest").client == "guest"


def test_ace_step_takes_the_fleets_defaults_and_other_backends_do_not() -> None:
    """Steps, scheduler and guidance act on diffusion alone."""
    settings = msgspec.structs.replace(
        SETTINGS,
        ace_step_default_steps=12,
        ace_step_default_scheduler=SchedulerType.Heun,
        ace_step_default_guidance=3.5,
    )
    filled = _generation(settings, backend="ace_step")
    assert (filled.inference_steps, filled.scheduler, filled.guidance_scale) == (12, "heun", 3.5)
    given = _generation(settings, backend="ace_step", inference_steps=4)
    assert given.inference_steps == 4
    assert _generation(settings).inference_steps is None


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("s3://music/a.wav", S3Source(bucket="music", key="a.wav")),
        ("https://youtu.be/x", YouTubeSource(url="https://youtu.be/x")),
        (
            "job:11111111-1111-4111-8111-111111111111#vocals",
            JobSource(job_id="11111111-1111-4111-8111-111111111111", stem="vocals"),
        ),
    ],
)
def test_a_source_travels_in_its_own_type(text: str, source: object) -> None:
    """The worker need not read what people type."""
    checked = check(SeparationRequest(source=text, options=MINI), SETTINGS, {})
    assert checked.request.source == source  # type: ignore[union-attr]
    assert checked.uploads == {}


@pytest.mark.parametrize("source", ["~/song.wav", Path("~/song.wav"), "file://~/song.wav"])
def test_a_local_file_waits_for_its_upload(source: Any) -> None:
    """A path, as text or as a Path."""
    checked = check(SeparationRequest(source=source, options=MINI), SETTINGS, {})
    assert list(checked.uploads) == ["source"]
    draft = finish(checked, {"source": UPLOAD})
    assert draft.request.source == UPLOAD  # type: ignore[union-attr]
    assert draft.fingerprint is not None


def test_a_source_that_is_not_hashed_yet_has_no_fingerprint() -> None:
    """The worker takes it when it has fetched the file."""
    draft = finish(check(SeparationRequest(source="https://x.example/a.mp3", options=MINI), SETTINGS, {}), {})
    assert draft.fingerprint is None


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(prompt=" ", duration_sec=30),
        GenerationRequest(prompt="x", duration_sec="30"),  # type: ignore[arg-type]
        GenerationRequest(prompt="x", duration_sec=30, backend=3),  # type: ignore[arg-type]
        GenerationRequest(id="1", prompt="x", duration_sec=30),
        GenerationRequest(id=None, prompt="x", duration_sec=30),  # type: ignore[arg-type]
        SeparationRequest(source=7, options=MINI),  # type: ignore[arg-type]
        SeparationRequest(source="x.wav", options="fast"),  # type: ignore[arg-type]
        {"prompt": "x"},
        None,
    ],
)
def test_whatever_is_given_the_error_is_a_typed_one(request_: Any) -> None:
    """Callers who do not run a type checker get a sentence, not a traceback from within."""
    with pytest.raises(InvalidRequest, match=r"^INVALID_"):
        check(request_, SETTINGS, {})


def test_a_foreign_backend_is_checked_like_any_other() -> None:
    """Its published ranges hold; its steps are its own, not ACE-Step's."""
    fields = {name: getattr(CATALOG["sketch"], name) for name in BackendSpec.__struct_fields__}
    foreign = BackendSpec(**(fields | {"backend": "theirs", "max_duration_sec": 10.0, "default_inference_steps": 4}))
    request = GenerationRequest(prompt="x", duration_sec=10, backend="theirs")
    settings = msgspec.structs.replace(SETTINGS, ace_step_default_steps=50)
    checked = check(request, settings, {"theirs": foreign}).request
    assert checked.inference_steps is None  # type: ignore[union-attr]
    with pytest.raises(InvalidRequest, match="5 to 10 seconds"):
        check(msgspec.structs.replace(request, duration_sec=11), settings, {"theirs": foreign})


def test_estimates_grow_with_the_work() -> None:
    """Longer audio, more passes and bags of models take longer; none takes no time."""

    def separation(quality: Quality) -> int:
        request = SeparationRequest(source=UPLOAD, options=StemSeparationOptions(quality=quality))
        checked = check(request, SETTINGS, {})
        return estimate_sec(checked.request, checked.spec)

    assert 1 <= separation(Quality.fast) <= separation(Quality.balanced) < separation(Quality.best)
    short, long = (_generation(backend="musicgen", duration_sec=seconds) for seconds in (5, 120))
    assert 1 <= estimate_sec(short, CATALOG["musicgen"]) < estimate_sec(long, CATALOG["musicgen"])
