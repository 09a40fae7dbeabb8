"""The generated contract: up to date, and as strict as the rules in Python."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from jsonschema.protocols import Validator

from soundfleet_schemas import CATALOG, Kind, SoundfleetError, decode_request, validate
from soundfleet_schemas.contract import MESSAGES, documents
from soundfleet_schemas.contract.write import write

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.json"))
JOB = "0b7c1b1e-8f2b-4c6d-9a53-0e6f1d2c3b4a"
ANOTHER_JOB = "5d0f7c52-3f0e-4a55-8a0f-7d6f3a1b2c4d"
SHA = "0123456789abcdef" * 4
DOCUMENTS = documents()


def validator(stem: str) -> Validator:
    """A validator of one message, formats included."""
    return jsonschema.Draft202012Validator(DOCUMENTS[stem], format_checker=jsonschema.FormatChecker())


def test_the_contract_in_the_repository_is_what_the_structs_say(tmp_path: Path) -> None:
    """Run ``python -m soundfleet_schemas.contract`` after changing a message."""
    for written in write(tmp_path):
        kept = ROOT / "schemas" / written.relative_to(tmp_path)
        assert kept.read_text(encoding="utf-8") == written.read_text(encoding="utf-8"), kept.name
    assert {path.stem for path in (ROOT / "schemas" / "jsonschema").iterdir()} == set(MESSAGES)


@pytest.mark.parametrize("stem", sorted(MESSAGES))
def test_a_schema_is_a_schema(stem: str) -> None:
    """Against the meta-schema of its draft."""
    jsonschema.Draft202012Validator.check_schema(DOCUMENTS[stem])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_messages_fit_their_schema(path: Path) -> None:
    """What was released is what is described."""
    validator(path.name.partition(".")[0]).validate(msgspec.json.decode(path.read_bytes()))


def generation(**fields: Any) -> dict[str, Any]:
    """A generation as another language would publish it."""
    return {"kind": "generate", "id": JOB, "prompt": "rain", "duration_sec": 30, "backend": "ace_step", **fields}


def separation(**options: Any) -> dict[str, Any]:
    """A separation as another language would publish it."""
    return {"kind": "separate", "id": JOB, "source": {"type": "job", "job_id": ANOTHER_JOB}, "options": options}


def sampled(**sampling: Any) -> dict[str, Any]:
    """A generation by MusicGen."""
    return generation(backend="musicgen", duration_sec=30, sampling=sampling)


def sourced(**source: Any) -> dict[str, Any]:
    """A separation of some source."""
    return {"kind": "separate", "id": JOB, "source": source}


TYPED = (
    *("", " ", "song.mp3", "/etc/passwd", "file:///etc/passwd", "ftp://h/x", "//h/x", "http:/h/x", "data:,x"),
    *("https://example.org/a", " https://example.org/a ", "HTTPS://EXAMPLE.ORG", "http://", "http://u:p@h/x"),
    *("s3://b/k", "S3://b/k/l m", "s3://b/", "s3://b", "s3://../k"),
    *(f"job:{ANOTHER_JOB}", f"job:{ANOTHER_JOB}#vocals", f"job:{ANOTHER_JOB}#", "job:x", f"job:{ANOTHER_JOB}#VOC"),
)
BORDERS = [
    *(
        generation(prompt=text)
        for text in (
            "",
            " ",
            "\x00",
            "\u200b\u2060",
            "\u3164",
            "a\x00",
            "x",
            "x" * 512,
            "x" * 513,
            "夜" * 512,
            "🌧" * 513,
        )
    ),
    *(generation(duration_sec=sec) for sec in (-1, 0, 4, 5, 240, 241, 2**70, 5.5)),
    *(generation(backend="musicgen", duration_sec=sec) for sec in (4, 5, 120, 121)),
    *(generation(backend="sketch", duration_sec=sec) for sec in (4, 5, 240, 241)),
    *(generation(seed=seed) for seed in (-1, 0, 2**64 - 1, 2**64, None)),
    *(generation(inference_steps=steps) for steps in (0, 1, 200, 201, None)),
    *(generation(guidance_scale=scale) for scale in (0.9, 1, 1.0, 30.0, 30.1)),
    *(generation(scheduler=word) for word in ("euler", "Euler", "heun", "pingpong", "ddim")),
    *(generation(backend="sketch", **{field: 8}) for field in ("inference_steps", "guidance_scale")),
    *(generation(backend=name, song={}) for name in ("sketch", "musicgen", "ace_step")),
    *(generation(backend=name, sampling={}, duration_sec=30) for name in ("sketch", "musicgen", "ace_step")),
    *(generation(song={"bpm": bpm}) for bpm in (29, 30, 300, 301, 90.5)),
    *(generation(song={"key": key}) for key in ("C major", "F# minor", "Bb major", "H major", "c major", "C major\n")),
    *(generation(song={"language": word}) for word in ("en", "yue", "unknown", "EN", "e", "english")),
    *(generation(song={"time_signature": beats}) for beats in ("2", "3", "4", "6", "5", 4)),
    *(generation(song={"shift": shift}) for shift in (0.9, 1, 3.0, 10, 10.1)),
    *(generation(song={"lyrics": text}) for text in ("", "la", "x" * 10_000, "x" * 10_001)),
    *(generation(song={"lora": name}) for name in ("rap", "../x", "", ".x")),
    *(generation(song={"lora": "rap", "lora_scale": scale}) for scale in (-0.1, 0, 2, 2.1)),
    *(generation(song={field: 1}) for field in ("tempo", "mood")),
    *(sampled(top_k=count) for count in (-1, 0, 2048, 2049)),
    *(sampled(top_p=share) for share in (-0.1, 0, 1, 1.1)),
    *(sampled(temperature=heat) for heat in (-0.1, 0, 2, 2.1)),
    *(sampled(guidance=scale) for scale in (0.9, 1, 30, 30.1)),
    *(generation(backend="sketch", **{name: f"job:{ANOTHER_JOB}"}) for name in ("source", "reference")),
    *(generation(output_format="mp3", bitrate_kbps=rate) for rate in (63, 64, 128, 129, 320, 321)),
    *(generation(output_format=word, bitrate_kbps=320) for word in ("wav", "mp3", "flac")),
    *(generation(bitrate_kbps=rate) for rate in (320, None)),
    *(generation(output_format=w, bit_depth=d) for w in ("wav", "mp3", "flac") for d in ("16", "24", "float", None)),
    *(generation(backend=name) for name in ("", "htdemucs", "sketch")),
    *(generation(expires_at=t) for t in ("2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00Z")),
    generation(expires_at="2026-01-01T00:00:00.5+05:30"),
    *(generation(client=name) for name in ("", "a", "a\n", "a b", "x" * 128, "x" * 129)),
    *(generation(time_limit_sec=sec) for sec in (0.9, 1, 600, 601)),
    *(generation(id=text) for text in (JOB, JOB + "\n", JOB.upper(), "x")),
    *(generation(retried_from=text) for text in (JOB, "x", None)),
    *(generation(schema_version=version) for version in (0, 1, 2)),
    *(generation(**{field: 1}) for field in ("tempo", "use_cache", "priority")),
    *(separation(shifts=count) for count in (-1, 0, 10, 11)),
    *(separation(segment_duration=sec) for sec in (-1, 0, 0.99, 1, 7.8, 7.81)),
    *(separation(segment_duration=sec, model="mdx") for sec in (7.81, 44, 44.1)),
    *(separation(segment_duration=sec, model="htdemucs_mini") for sec in (3, 3.1)),
    *(separation(segment_duration=7.81, quality=word) for word in ("fast", "balanced", "best")),
    *(separation(overlap_duration=sec) for sec in (-0.1, 0, 1, 7, 7.1)),
    *(separation(seed=seed) for seed in (-1, 0, 2**64 - 1, 2**64)),
    *(separation(seed=seed, shifts=count) for seed in (0, 5) for count in (0, 1, None)),
    *(separation(seed=seed, shifts=count, quality="fast") for seed in (0, 5) for count in (0, 1, None)),
    separation(seed=5, quality="fast"),
    *(separation(stems=stems) for stems in ([], ["vocals"], ["vocals", "vocals"], ["guitar"], ["instrumental"])),
    *(separation(stems=["guitar"], model=model) for model in ("htdemucs_6s", "mdx", None)),
    *(separation(two_stems=stem) for stem in ("vocals", "guitar", "no_vocals", "", None)),
    *(separation(two_stems=stem, model="htdemucs_6s") for stem in ("vocals", "guitar")),
    *(separation(two_stems="vocals", remove_vocals=flag) for flag in (True, False)),
    *(separation(two_stems=stem, stems=["bass"]) for stem in ("vocals", None)),
    *(separation(keep_sample_rate=flag) for flag in (True, False, 1)),
    *(separation(remove_vocals=flag, stems=stems) for flag in (True, False) for stems in (["bass"], None)),
    *(separation(model=model) for model in ("", "sketch", "htdemucs", None)),
    *(separation(output_format=w, bit_depth=d) for w in ("wav", "mp3", "flac") for d in ("16", "24", "float", None)),
    *(separation(output_format=w, bitrate_kbps=128) for w in ("wav", "mp3", "flac")),
    *(separation(output_format="mp3", bitrate_kbps=rate) for rate in (127, 128)),
    *(separation(quality=word) for word in ("fast", "balanced", "best", "perfect")),
    *(separation(output_format=word) for word in ("wav", "mp3", "flac", "ogg")),
    *(separation(normalize=flag) for flag in (True, 1)),
    sourced(type="job", job_id="x"),
    *(sourced(type="job", job_id=ANOTHER_JOB, stem=stem) for stem in ("vocals", "../x", "")),
    *(
        sourced(type="url", url=url)
        for url in ("https://example.org/a", "file:///etc/passwd", "https://a b", "http://u:p@h/x")
    ),
    *(sourced(type="url", url=url) for url in ("https://example.org/a@b", "https://example.org?a=@", "https://a\n")),
    *(sourced(type="s3", bucket=bucket, key="k") for bucket in ("songs", "a/b", "", "..", "a..b", "a.b", "a.")),
    *(
        sourced(type="s3", bucket="songs", key=key)
        for key in ("", "k" * 1024, "k" * 1025, "a\x00b", "k\n", "../k", "a..b")
    ),
    *(
        sourced(type="file_upload", key=key, sha256=SHA, size_bytes=1)
        for key in (f"uploads/{SHA}", f"uploads/{SHA}.mp3", "x")
    ),
    *(sourced(type="file_upload", key=f"uploads/{SHA}", sha256=SHA, size_bytes=n) for n in (0, 1, 50 * 2**20 + 1)),
    sourced(type="ftp", url="ftp://example.org"),
    *({"kind": "separate", "id": JOB, "source": text} for text in TYPED),
]


@pytest.mark.parametrize("document", BORDERS, ids=lambda document: str(document)[:150])
def test_schema_and_rules_agree_on_every_border(document: dict[str, Any]) -> None:
    """A publisher in another language can check with the schema what the fleet would refuse."""
    try:
        validate(decode_request(msgspec.json.encode(document)))
        accepted = True
    except SoundfleetError:
        accepted = False
    stem = "generation_request" if document["kind"] == "generate" else "separation_request"
    assert validator(stem).is_valid(document) is accepted


LEFT_TO_THE_CODE = [
    generation(duration_sec=30.0),
    generation(backend="nobody_has_this"),
    separation(model="nobody_has_this"),
    separation(segment_duration=1.0, overlap_duration=0.95),
    separation(segment_duration=1.0, shifts=10),
    sourced(type="s3", bucket="b", key="é" * 1024),
    sourced(type="job", job_id=JOB),
    sourced(type="youtube_url", url="https://example.org/watch"),
    sourced(type="url", url="https://example.org:99999/"),
    sourced(type="file_upload", key=f"uploads/{SHA}", sha256=SHA[::-1], size_bytes=1),
]


@pytest.mark.parametrize("document", LEFT_TO_THE_CODE, ids=lambda document: str(document)[:150])
def test_some_rules_only_the_code_holds(document: dict[str, Any]) -> None:
    """docs/protocol.md lists them; a rule that the schema learns moves to the borders above."""
    stem = "generation_request" if document["kind"] == "generate" else "separation_request"
    assert validator(stem).is_valid(document)
    with pytest.raises(SoundfleetError):
        validate(decode_request(msgspec.json.encode(document)))


def test_patterns_use_only_what_every_engine_has() -> None:
    """Some languages' engines know no look-around and no Unicode classes."""
    text = json.dumps(DOCUMENTS)
    assert not re.search(r"\(\?[=!<]|\\\\[pPkK]", text)


def test_every_generation_backend_has_its_range_in_the_schema() -> None:
    """From the catalogue: a new backend cannot be forgotten."""
    for spec in CATALOG.values():
        if spec.kind is Kind.generate:
            longer = generation(backend=spec.backend, duration_sec=int(spec.max_duration_sec) + 1)
            assert not validator("generation_request").is_valid(longer)


def test_asyncapi_names_only_messages_and_files_that_exist() -> None:
    """Every reference leads somewhere."""
    document = yaml.safe_load((ROOT / "schemas" / "asyncapi.yaml").read_text(encoding="utf-8"))
    assert document["asyncapi"] == "3.0.0"
    for reference in references(document):
        if reference.startswith("#/"):
            node = document
            for step in reference.removeprefix("#/").split("/"):
                node = node[step]
        else:
            assert (ROOT / "schemas" / reference).is_file(), reference


def references(node: Any) -> list[str]:
    """Every $ref below a node."""
    if isinstance(node, list):
        return [reference for item in node for reference in references(item)]
    if not isinstance(node, dict):
        return []
    here = [value for key, value in node.items() if key == "$ref"]
    return here + references(list(node.values()))
