"""The real yt-dlp, its YouTube extractor and its JavaScript runtime, and a host on this machine that plays YouTube."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from tests import media
from tests.videos import TLS, VideoHost, offered, processes_of, refused, video_host
from tests.waiting import wait_until

from soundfleet_schemas import ErrorCode, Limits, SoundfleetError
from soundfleet_worker.audio.decode import decode
from soundfleet_worker.fetch import Fetched, FetchPolicy, VideoPolicy, fetch_video
from soundfleet_worker.fetch import video as video_module

pytestmark = pytest.mark.skipif(video_module._runtime() is None, reason="needs the extra fetch: yt-dlp[default,deno]")

OK, LONG, LIVE, BIG = "okokokokoko", "longlonglon", "liveliveliv", "bigbigbigbi"
PR_SET_CHILD_SUBREAPER = 36
ENDLESS = "(function(){var U=function(){};for(;;){}}).call(this);"
REFUSALS = {
    "upcomingupc": (ErrorCode.SOURCE_LIVE, "LIVE_STREAM_OFFLINE", "This live event will begin in 3 hours.", ""),
    "privatepriv": (
        ErrorCode.SOURCE_PRIVATE,
        "LOGIN_REQUIRED",
        "Private video",
        "Sign in if you've been granted access",
    ),
    "botbotbotbo": (ErrorCode.SOURCE_BOT_CHECK, "LOGIN_REQUIRED", "Sign in to confirm you’re not a bot", ""),
    "ageageageag": (ErrorCode.SOURCE_AGE_RESTRICTED, "LOGIN_REQUIRED", "Sign in to confirm your age", "Inappropriate?"),
    "geogeogeoge": (
        ErrorCode.SOURCE_GEO_BLOCKED,
        "UNPLAYABLE",
        "Video unavailable",
        "The uploader has not made this video available in your country",
    ),
    "removedremo": (
        ErrorCode.SOURCE_REMOVED,
        "ERROR",
        "Video unavailable",
        "This video has been removed by the uploader",
    ),
    "limitedlimi": (ErrorCode.SOURCE_UNAVAILABLE, "UNPLAYABLE", "This content isn't available, try again later.", ""),
}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VideoHost]:
    """YouTube, as far as these tests go, trusted by whoever asks the system."""
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "video-ca.pem"))
    sound = media.make(tmp_path, "webm", media.sine(3.0, 48_000), 48_000).read_bytes()
    film = media.film(tmp_path / "film.mp4", media.sine(3.0), 44_100).read_bytes()
    (tmp_path / "in").mkdir()
    kinds = {'video/mp4; codecs="mp4v.20.8, mp4a.40.2"': film, 'audio/webm; codecs="opus"': sound}
    with video_host() as running:
        running.media = list(kinds.values())
        running.players = {video: refused(*words) for video, (_code, *words) in REFUSALS.items()}
        running.players |= {OK: offered(kinds), LONG: offered(kinds, 7200), LIVE: offered(kinds, 0, isLive=True)}
        yield running


def policy(host: VideoHost, **changes: Any) -> VideoPolicy:
    """Reach the host under every name."""
    fetch = FetchPolicy((ip_network("127.0.0.1"),), read_sec=5.0, total_sec=60.0)
    return VideoPolicy(fetch=fetch, pins=host.pins)._replace(**changes)


async def fetch(video: str, host: VideoHost, tmp_path: Path, **changes: Any) -> Fetched:
    """Fetch a video; whatever happens, only the file may be left."""
    url = f"https://www.youtube.com/{video}" if "?" in video else f"https://www.youtube.com/watch?v={video}"
    destination = tmp_path / "in" / "source"
    try:
        return await fetch_video(url, destination, Limits(), policy(host, **changes))
    finally:
        assert left_in(tmp_path / "in") <= {"source"}
        await asyncio.to_thread(wait_until, lambda: not processes_of(tmp_path), "the end of all processes")


def left_in(directory: Path) -> set[str]:
    """Names in a directory."""
    return {path.name for path in directory.iterdir()}


async def test_the_sound_of_a_video_is_fetched_as_it_is(host: VideoHost, tmp_path: Path) -> None:
    """Audio alone goes before a film, the runtime solves the challenge, and nothing else is fetched."""
    told: list[tuple[int, int | None]] = []
    destination, sound = tmp_path / "in" / "source", host.media[1]
    url = f"https://www.youtube.com/watch?v={OK}&list=PLaaaaaaaaaaaaaaaa&index=2"
    fetched = await fetch_video(url, destination, Limits(), policy(host), lambda *step: told.append(step))
    assert read(destination) == sound
    assert (fetched.size_bytes, fetched.host) == (len(sound), "www.youtube.com")
    assert (fetched.content_type, fetched.filename) == ("audio/webm", ".._A song?.webm")
    assert told[-1] == (len(sound), len(sound))
    assert sum("videoplayback" in asked for asked in host.asked) == 1
    assert left_in(tmp_path / "in") == {"source"}
    info = decode(destination, tmp_path / "out.npy", 44_100, Limits())
    assert info.duration_sec == pytest.approx(3.0, abs=0.05)


def read(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.parametrize("video", REFUSALS)
async def test_what_youtube_refuses_has_a_code_of_its_own(video: str, host: VideoHost, tmp_path: Path) -> None:
    """With YouTube's sentence, through yt-dlp's extractor; nothing is fetched."""
    with pytest.raises(SoundfleetError) as caught:
        await fetch(video, host, tmp_path)
    assert caught.value.code is REFUSALS[video][0]
    assert not any("videoplayback" in asked for asked in host.asked)


@pytest.mark.parametrize(
    ("video", "code"),
    [
        (LONG, ErrorCode.AUDIO_TOO_LONG),
        (LIVE, ErrorCode.SOURCE_LIVE),
        ("unknownunkn", ErrorCode.SOURCE_REMOVED),
        ("abc", ErrorCode.INVALID_SOURCE),
        ("playlist?list=PLaaaaaaaaaaaaaaaa", ErrorCode.INVALID_SOURCE),
    ],
)
async def test_what_is_not_one_recorded_video_is_refused_before_it_is_fetched(
    video: str, code: ErrorCode, host: VideoHost, tmp_path: Path
) -> None:
    """By what the page says."""
    with pytest.raises(SoundfleetError) as caught:
        await fetch(video, host, tmp_path)
    assert caught.value.code is code
    assert not any("videoplayback" in asked for asked in host.asked)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/watch", 429, ErrorCode.SOURCE_UNAVAILABLE),
        ("/videoplayback", 403, ErrorCode.SOURCE_UNAVAILABLE),
        ("/videoplayback", 404, ErrorCode.SOURCE_NOT_FOUND),
    ],
)
async def test_a_host_that_fails_is_told_by_its_status(
    path: str, status: int, code: ErrorCode, host: VideoHost, tmp_path: Path
) -> None:
    """Of the page, of the players and of the media."""
    host.status = {path: status} | ({"/youtubei/v1/player": status} if path == "/watch" else {})
    with pytest.raises(SoundfleetError) as caught:
        await fetch(OK, host, tmp_path)
    assert caught.value.code is code


async def test_a_certificate_that_nobody_knows_is_refused(
    host: VideoHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no switch for it; SSL_CERT_FILE names others."""
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
    with pytest.raises(SoundfleetError, match="certificate") as caught:
        await fetch(OK, host, tmp_path)
    assert caught.value.code is ErrorCode.SOURCE_FORBIDDEN


async def test_a_name_that_leads_into_this_network_is_refused(host: VideoHost, tmp_path: Path) -> None:
    """Whatever the name says and however often it is asked: the address counts when the connection is made."""
    with pytest.raises(SoundfleetError, match="not on the public internet") as caught:
        await fetch(OK, host, tmp_path, fetch=FetchPolicy(read_sec=5.0))
    assert caught.value.code is ErrorCode.SOURCE_FORBIDDEN
    assert host.asked == []


async def test_without_a_runtime_the_error_says_what_to_install(
    host: VideoHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """YouTube's media have challenges, which only JavaScript answers."""
    monkeypatch.setattr(video_module, "_runtime", lambda: None)
    with pytest.raises(SoundfleetError, match="pip install") as caught:
        await fetch(OK, host, tmp_path)
    assert caught.value.code is ErrorCode.MISSING_DEPENDENCY


async def test_cookies_are_shown_and_their_file_is_never_written(host: VideoHost, tmp_path: Path) -> None:
    """yt-dlp writes a jar at its end; that is a copy, which goes with the directory."""
    cookies = tmp_path / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t4102444800\tsession\tabc123\n"
    cookies.write_text(text)
    await fetch(OK, host, tmp_path, cookies=cookies)
    assert "session=abc123" in host.cookies
    assert cookies.read_text() == text
    cookies.write_text('{"not": "cookies"}')
    with pytest.raises(SoundfleetError, match="video_cookies") as caught:
        await fetch(OK, host, tmp_path, cookies=cookies)
    assert caught.value.code is ErrorCode.INVALID_SETTING


def runtime_of(directory: Path) -> int | None:
    """The process of deno while it computes."""
    for pid in processes_of(directory):
        if b"deno\0run" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def exists(pid: int | None) -> bool:
    """Also as a zombie."""
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def first_process() -> Iterator[None]:
    """Inherit what dying processes leave behind, like the first process of a container."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1) == 0
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.mark.usefixtures("first_process")
async def test_cancelling_ends_the_runtime_too(host: VideoHost, tmp_path: Path) -> None:
    """A player's script that never ends, and a user who does not wait for it."""
    host.script = ENDLESS
    task = asyncio.create_task(fetch(OK, host, tmp_path))
    runtime = await asyncio.to_thread(wait_until, lambda: runtime_of(tmp_path), "deno to compute")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left_in(tmp_path / "in") == set()
    assert not exists(runtime)


@pytest.mark.usefixtures("first_process")
async def test_the_runtime_dies_with_yt_dlp(host: VideoHost, tmp_path: Path) -> None:
    """Also when that is killed from outside, by the kernel for its memory for instance."""
    host.script = ENDLESS
    task = asyncio.create_task(fetch(OK, host, tmp_path))
    runtime = await asyncio.to_thread(wait_until, lambda: runtime_of(tmp_path), "deno to compute")
    (parent,) = processes_of(tmp_path) - {runtime}
    os.kill(parent, signal.SIGKILL)
    with pytest.raises(SoundfleetError, match="killed") as caught:
        await task
    assert caught.value.code is ErrorCode.DECODE_LIMIT_EXCEEDED
    assert not exists(runtime)
    assert left_in(tmp_path / "in") == set()


async def test_a_fetch_has_an_end(host: VideoHost, tmp_path: Path) -> None:
    """Whatever takes so long."""
    host.script = ENDLESS
    short = FetchPolicy((ip_network("127.0.0.1"),), total_sec=3.0)
    with pytest.raises(SoundfleetError, match="over 3 s") as caught:
        await fetch(OK, host, tmp_path, fetch=short)
    assert caught.value.code is ErrorCode.SOURCE_UNAVAILABLE
