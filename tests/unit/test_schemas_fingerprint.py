"""The fingerprint changes with everything that changes the audio, and with nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soundfleet_schemas import (
    CATALOG,
    SOURCE,
    GenerationRequest,
    JobRequest,
    SamplingOptions,
    SeparationRequest,
    SongOptions,
    StemSeparationOptions,
    UploadSource,
    UrlSource,
    backend_of,
    decode_request,
    encode,
    fingerprint,
    validate,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SHA = "ab" * 32
GENERATION = GenerationRequest(prompt="rain", duration_sec=30, backend="ace_step", seed=1)
SEPARATION = SeparationRequest(source=UploadSource(key=f"uploads/{SHA}", sha256=SHA, size_bytes=1))

ACTING_ON_GENERATION = {
    "prompt": "snow",
    "duration_sec": 31,
    "backend": "sketch",
    "seed": 2,
    "inference_steps": 9,
    "scheduler": "heun",
    "guidance_scale": 2.0,
    "output_format": "flac",
    "bit_depth": "16",
    "bitrate_kbps": None,
}
OPTIONS_OF_GENERATION = {"sampling": SamplingOptions(), "song": SongOptions()}
ACTING_ON_SEPARATION = {
    "model": "htdemucs_6s",
    "quality": "fast",
    "output_format": "flac",
    "bit_depth": "16",
    "bitrate_kbps": None,
    "normalize": True,
    "remove_vocals": True,
    "stems": ("bass",),
    "segment_duration": 5.0,
    "overlap_duration": 1.0,
    "shifts": 2,
    "seed": 2,
    "two_stems": "bass",
    "keep_sample_rate": True,
}
UPLOAD = UploadSource(key=f"uploads/{SHA}", sha256=SHA, size_bytes=1)
SOURCES_OF_GENERATION = {"source": UPLOAD, "reference": UPLOAD}
SOURCES_OF_SEPARATION = {"source": UPLOAD, "references": {"bass": UPLOAD}}
ENVELOPE = {
    "id": "0b7c1b1e-8f2b-4c6d-9a53-0e6f1d2c3b4a",
    "priority": "high",
    "client": "someone",
    "expires_at": None,
    "time_limit_sec": 10.0,
    "retried_from": "0b7c1b1e-8f2b-4c6d-9a53-0e6f1d2c3b4a",
    "use_cache": False,
    "schema_version": 1,
}


def print_of(request: JobRequest) -> str | None:
    """Fingerprint as a worker computes it: of the decoded, valid message."""
    validate(request)
    return fingerprint(decode_request(encode(request)), CATALOG[backend_of(request)])


def changed(request: Any, **fields: Any) -> Any:
    """The request, or its options, with other values."""
    return msgspec.structs.replace(request, **fields)


def with_options(**fields: Any) -> SeparationRequest:
    """The separation with options."""
    return changed(SEPARATION, options=StemSeparationOptions(**fields))


def test_every_field_is_sorted_into_acting_or_not() -> None:
    """A new field must be put on one side, or this fails."""
    assert set(GenerationRequest.__struct_fields__) == {
        *ENVELOPE,
        *ACTING_ON_GENERATION,
        *OPTIONS_OF_GENERATION,
        *SOURCES_OF_GENERATION,
    }
    assert set(SeparationRequest.__struct_fields__) == set(ENVELOPE) | set(SOURCES_OF_SEPARATION) | {"options"}
    assert set(StemSeparationOptions.__struct_fields__) == set(ACTING_ON_SEPARATION)


@pytest.mark.parametrize("field", [f for f, v in ACTING_ON_GENERATION.items() if v is not None])
def test_a_field_that_acts_changes_a_generation(field: str) -> None:
    """One at a time."""
    assert print_of(changed(GENERATION, **{field: ACTING_ON_GENERATION[field]})) != print_of(GENERATION)


@pytest.mark.parametrize("field", [f for f, v in ACTING_ON_SEPARATION.items() if v is not None])
def test_an_option_that_acts_changes_a_separation(field: str) -> None:
    """One at a time."""
    assert print_of(with_options(**{field: ACTING_ON_SEPARATION[field]})) != print_of(SEPARATION)


@pytest.mark.parametrize("request_", [GENERATION, SEPARATION], ids=["generation", "separation"])
@pytest.mark.parametrize("field", sorted(ENVELOPE))
def test_the_envelope_changes_nothing(request_: JobRequest, field: str) -> None:
    """Who asks, when, and how urgently is no matter of the audio."""
    assert print_of(changed(request_, **{field: ENVELOPE[field]})) == print_of(request_)


def test_the_bitrate_acts_on_mp3_only() -> None:
    """Where it is the default it changes nothing."""
    mp3 = changed(GENERATION, output_format="mp3")
    assert print_of(changed(mp3, bitrate_kbps=128)) != print_of(mp3)
    assert print_of(changed(mp3, bitrate_kbps=320)) == print_of(mp3)


def test_a_depth_that_was_asked_for_is_not_the_default() -> None:
    """The default of wav becomes float where 24 bits would clip; flac has no float."""
    assert print_of(with_options(bit_depth="24")) != print_of(SEPARATION)
    assert print_of(changed(GENERATION, bit_depth="24")) != print_of(GENERATION)
    flac = changed(GENERATION, output_format="flac")
    assert print_of(changed(flac, bit_depth="24")) == print_of(flac)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inference_steps", 8),
        ("scheduler", "euler"),
        ("guidance_scale", 1),
        ("output_format", "wav"),
    ],
)
def test_a_default_spelled_out_changes_no_generation(field: str, value: Any) -> None:
    """Whether as a word, an integer or a float."""
    assert print_of(changed(GENERATION, **{field: value})) == print_of(GENERATION)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "htdemucs"},
        {"quality": "balanced"},
        {"segment_duration": 7.8},
        {"overlap_duration": 7.8 * 0.25},
        {"shifts": 1},
        {"stems": ("vocals", "other", "bass", "drums")},
    ],
)
def test_a_default_spelled_out_changes_no_separation(options: dict[str, Any]) -> None:
    """Nor does the order of the stems."""
    assert print_of(with_options(**options)) == print_of(SEPARATION)


@pytest.mark.parametrize(
    "request_",
    [
        changed(GENERATION, guidance_scale=7),
        with_options(segment_duration=5, overlap_duration=1),
        with_options(stems=["bass"]),
    ],
)
def test_a_request_has_one_fingerprint_before_and_after_the_wire(request_: JobRequest) -> None:
    """A producer that writes 7 and a worker that reads 7.0 agree."""
    assert fingerprint(request_, CATALOG[backend_of(request_)]) == print_of(request_)


def test_the_seed_of_shifts_that_are_not_made_does_not_act() -> None:
    """Quality fast makes none. Validation refuses such a seed; a plan forgets it."""
    spec = CATALOG["htdemucs"]
    assert fingerprint(with_options(quality="fast", seed=9), spec) == fingerprint(with_options(quality="fast"), spec)


def test_a_zero_is_a_zero() -> None:
    """An overlap of 0, 0.0 or -0.0 seconds."""
    assert len({print_of(with_options(overlap_duration=zero)) for zero in (0, 0.0, -0.0)}) == 1


def test_the_audio_and_the_model_version_act() -> None:
    """Other bytes, or new weights, are other stems."""
    spec = CATALOG["htdemucs"]
    other = changed(SEPARATION, source=UploadSource(key=f"uploads/{'cd' * 32}", sha256="cd" * 32, size_bytes=1))
    assert fingerprint(other, spec) != fingerprint(SEPARATION, spec)
    assert fingerprint(SEPARATION, changed(spec, model_version="htdemucs-2")) != fingerprint(SEPARATION, spec)


def test_the_same_bytes_from_elsewhere_are_the_same_work() -> None:
    """A worker that fetched the file knows its hash; the name and the suffix do not act."""
    spec = CATALOG["htdemucs"]
    fetched = SeparationRequest(source=UrlSource(url="https://example.org/a.mp3"))
    assert fingerprint(fetched, spec) is None
    assert fingerprint(fetched, spec, {SOURCE: SHA}) == fingerprint(SEPARATION, spec)


@pytest.mark.parametrize("field", OPTIONS_OF_GENERATION)
def test_options_of_a_generation_that_say_nothing_do_not_act(field: str) -> None:
    """Such requests had a fingerprint before there were options; what is said in them acts."""
    spec, saying = CATALOG["ace_step"], {"sampling": SamplingOptions(top_k=7), "song": SongOptions(bpm=90)}
    said_nothing = changed(GENERATION, **{field: OPTIONS_OF_GENERATION[field]})
    assert fingerprint(said_nothing, spec) == fingerprint(GENERATION, spec)
    assert fingerprint(changed(GENERATION, **{field: saying[field]}), spec) != fingerprint(GENERATION, spec)


@pytest.mark.parametrize("field", SOURCES_OF_GENERATION)
def test_the_audio_of_a_generation_acts_under_its_name(field: str) -> None:
    """Whether it is uploaded or fetched; what is gone on from is not what is followed."""
    spec = CATALOG["ace_step"]
    uploaded = fingerprint(changed(GENERATION, **{field: SOURCES_OF_GENERATION[field]}), spec)
    fetched = changed(GENERATION, **{field: UrlSource(url="https://example.org/a.mp3")})
    assert fingerprint(fetched, spec) is None
    assert fingerprint(fetched, spec, {field: SHA}) == uploaded
    (other,) = {"source", "reference"} - {field}
    prints = {fingerprint(changed(GENERATION, **{other: UPLOAD}), spec), uploaded, fingerprint(GENERATION, spec)}
    assert len(prints) == 3


def test_the_references_of_a_separation_act_each_under_its_stem() -> None:
    """The result is measured against them; without them it has the fingerprint that it always had."""
    spec = CATALOG["htdemucs"]
    bass, drums = changed(SEPARATION, references={"bass": UPLOAD}), changed(SEPARATION, references={"drums": UPLOAD})
    assert len({fingerprint(request, spec) for request in (SEPARATION, bass, drums)}) == 3
    fetched = changed(SEPARATION, references={"bass": UrlSource(url="https://example.org/bass.wav")})
    assert fingerprint(fetched, spec, {SOURCE: SHA}) is None
    assert fingerprint(fetched, spec, {"reference.bass": SHA}) == fingerprint(bass, spec)


def test_what_is_not_determined_has_no_fingerprint() -> None:
    """A generation without a seed may become anything."""
    assert fingerprint(changed(GENERATION, seed=None), CATALOG["ace_step"]) is None


@UNHURRIED
@given(
    prompt=st.text(min_size=1, max_size=40), seed=st.integers(0, 2**64 - 1), duration=st.integers(5, 240), cut=st.data()
)
def test_neighbouring_fields_do_not_run_together(prompt: str, seed: int, duration: int, cut: st.DataObject) -> None:
    """Moving digits from one field to another is another track, unlike in a hash of glued text."""
    request = changed(GENERATION, prompt=prompt, seed=seed, duration_sec=duration)
    spec = CATALOG["ace_step"]
    digits = str(seed)
    moved = cut.draw(st.integers(0, len(digits) - 1))
    other = changed(request, prompt=prompt + digits[:moved], seed=int(digits[moved:]))
    same = (other.prompt, other.seed) == (request.prompt, request.seed)
    assert (fingerprint(other, spec) == fingerprint(request, spec)) is same


def test_a_fingerprint_is_kept_for_ever() -> None:
    """A change here empties every cache and renames every track: raise SCHEMA_VERSION instead."""
    assert fingerprint(GENERATION, changed(CATALOG["ace_step"], model_version="pinned")) == PINNED_GENERATION
    assert fingerprint(SEPARATION, changed(CATALOG["htdemucs"], model_version="pinned")) == PINNED_SEPARATION


PINNED_GENERATION = "87ad0a8ab8c06e82e394843e8fea2c206be3fce8301a223efdff674ec4e1591e"
PINNED_SEPARATION = "2147e3366148db10cf3882fbc28df95ef85c5c28d651a23c5d76431b1dceca98"
