"""What is accepted of one file: the formats and the length that the operator has set, wherever the file comes from."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from tests import media

from soundfleet_schemas import (
    CATALOG,
    DEFAULT_LIMITS,
    BackendSpec,
    ErrorCode,
    Kind,
    Limits,
    SeparationRequest,
    SoundfleetError,
    UploadSource,
    UrlSource,
    YouTubeSource,
)
from soundfleet_schemas.limits import INPUT_FORMATS
from soundfleet_worker.audio.info import AudioInfo
from soundfleet_worker.audio.probe import probe
from soundfleet_worker.fetch import Fetched, VideoPolicy
from soundfleet_worker.supervisor import fetching
from soundfleet_worker.supervisor.fetching import _download, _Progress
from soundfleet_worker.supervisor.prepare import File, Work, _decode, _limits_of
from soundfleet_worker.supervisor.reporter import Reporter
from soundfleet_worker.supervisor.run import Run
from soundfleet_worker.supervisor.tools import Tools

KINDS = {
    "mp3": "mp3",
    "wav16": "wav",
    "m4a": "m4a",
    "flac16": "flac",
    "ogg": "ogg",
    "oggflac": "ogg",
    "opus": "opus",
    "webm": "webm",
    "mkaflac": "webm",
    "aac": "aac",
}
MINI = CATALOG["htdemucs_mini"]
REQUEST = SeparationRequest(source=UploadSource(key="uploads/x", sha256="ab" * 32, size_bytes=1))


def work_of(spec: BackendSpec = MINI) -> Work:
    return Work(REQUEST, spec, None, 0.0, files=4)


def decoded(path: Path, limits: Limits, spec: BackendSpec = MINI, *, is_brought: bool = True) -> AudioInfo:
    """Decode a file as a worker prepares it."""
    tools = cast(Tools, SimpleNamespace(limits=limits, decoding=asyncio.Semaphore(1)))
    file = File(path, path.stat().st_size, "", DEFAULT_LIMITS.max_file_bytes, is_brought)
    return asyncio.run(_decode(file, work_of(spec), tools))


@pytest.mark.parametrize(("kind", "word"), KINDS.items())
def test_each_format_is_accepted_under_its_own_word_and_no_other(tmp_path: Path, kind: str, word: str) -> None:
    """By content: the file's name ends in another format's suffix."""
    path = media.make(tmp_path, kind, media.sine(0.5, 48_000), 48_000, name="song.mp3" if word != "mp3" else "song.wav")
    assert probe(path, Limits(input_formats=word)).channels == 2
    others = [other for other in INPUT_FORMATS if other != word]
    with pytest.raises(SoundfleetError, match=f"the file is {word}, .*formats: {', '.join(others)}") as caught:
        probe(path, Limits(input_formats=",".join(others)))
    assert caught.value.code is ErrorCode.UNSUPPORTED_FORMAT


def test_every_word_is_of_some_file() -> None:
    """No format is offered that is not tried above."""
    assert set(KINDS.values()) == set(INPUT_FORMATS)


def test_the_output_of_another_job_may_be_of_any_format(tmp_path: Path) -> None:
    """The fleet made it; its caller chose a format that the fleet has offered."""
    path, only_mp3 = media.make(tmp_path, "flac16", media.sine(0.5)), Limits(input_formats="mp3")
    with pytest.raises(SoundfleetError, match="the file is flac"):
        decoded(path, only_mp3)
    assert decoded(path, only_mp3, is_brought=False).samples == 22_050


@pytest.mark.parametrize("is_video", [True, False])
async def test_a_video_may_be_of_any_format_and_a_file_behind_an_address_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_video: bool
) -> None:
    """YouTube gives its sound as it has it."""

    async def put(_url: str, path: Path, *_args: object, **_options: object) -> Fetched:
        media.make(tmp_path, "webm", media.sine(0.5, 48_000), 48_000, name=path.name)
        return Fetched(1, "ab" * 32, "www.youtube.com", "audio/webm", "a.webm")

    monkeypatch.setattr(fetching, "fetch_video", put)
    monkeypatch.setattr(fetching, "fetch_url", put)
    source = (
        YouTubeSource(url="https://www.youtube.com/watch?v=aaaaaaaaaaa") if is_video else UrlSource(url="https://a")
    )
    tools = SimpleNamespace(
        limits=Limits(input_formats="mp3"),
        video_policy=VideoPolicy(),
        fetch_policy=None,
        videos=asyncio.Semaphore(1),
        decoding=asyncio.Semaphore(1),
    )
    run = cast(Run, SimpleNamespace(directory=tmp_path, log=SimpleNamespace(info=lambda *_args, **_facts: None)))
    progress = _Progress(cast(Reporter, SimpleNamespace(tell=lambda _news: None)))
    if is_video:
        assert (await _download(run, "source", source, progress, cast(Tools, tools))).path.exists()
    else:
        with pytest.raises(SoundfleetError, match=r"the file is webm, .*formats: mp3"):
            await _download(run, "source", source, progress, cast(Tools, tools))


@pytest.mark.parametrize("spec", [spec for spec in CATALOG.values() if spec.kind is Kind.separate], ids=str)
def test_the_operators_limit_acts_on_every_model(spec: BackendSpec) -> None:
    """Lower or higher than the default: no Demucs model has a longest audio of its own below three hours."""
    file = File(Path("source"), 1, "", 1)
    for longest in (60.0, 600.0, 7_200.0, 10_800.0):
        assert _limits_of(file, work_of(spec), Limits(max_audio_sec=longest)).max_audio_sec == longest


def test_longer_audio_is_separated_once_the_limit_is_raised(tmp_path: Path) -> None:
    """Eleven minutes of a telephone."""
    path = media.long_file(tmp_path / "long.wav")
    with pytest.raises(SoundfleetError, match="the limit is 600 s") as caught:
        decoded(path, DEFAULT_LIMITS)
    assert caught.value.code is ErrorCode.AUDIO_TOO_LONG
    assert decoded(path, Limits(max_audio_sec=1_200.0)).duration_sec > 600


def test_a_backend_of_ones_own_may_take_less_than_the_fleet(tmp_path: Path) -> None:
    """What a codec adds is forgiven there as well."""
    short = msgspec.structs.replace(MINI, max_duration_sec=1.0)
    with pytest.raises(SoundfleetError, match="the limit is 1 s") as caught:
        decoded(media.make(tmp_path, "wav16", media.sine(1.2)), DEFAULT_LIMITS, short)
    assert caught.value.code is ErrorCode.AUDIO_TOO_LONG
    assert decoded(media.make(tmp_path, "wav16", media.sine(1.05)), DEFAULT_LIMITS, short).samples == 46_305
