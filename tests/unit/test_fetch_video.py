"""Which addresses yt-dlp serves, and what it may not do in its process."""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import ip_network
from pathlib import Path

import pytest

from soundfleet_schemas import ErrorCode, Limits, SoundfleetError, error
from soundfleet_worker.audio.decode_main import Box
from soundfleet_worker.fetch import FetchPolicy, VideoPolicy, fetch_video, read_hosts, takes
from soundfleet_worker.fetch.video_download import check, options
from soundfleet_worker.fetch.video_faults import explain
from soundfleet_worker.fetch.video_jail import Jail
from soundfleet_worker.fetch.video_order import Order, Reach

LISTED = VideoPolicy(read_hosts("vimeo.com, *.Bandcamp.com"))
DENO = "/usr/bin/deno"


def left_in(directory: Path) -> list[Path]:
    """What lies in a directory."""
    return list(directory.iterdir())


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://www.youtube.com/watch?v=aaaaaaaaaaa", True),
        ("https://youtu.be/aaaaaaaaaaa", True),
        ("HTTPS://Music.YouTube.com./watch?v=aaaaaaaaaaa", True),
        ("https://vimeo.com/1", True),
        ("https://artist.bandcamp.com/track/x", True),
        ("https://a.b.bandcamp.com/", True),
        ("https://bandcamp.com/", False),
        ("https://player.vimeo.com/1", False),
        ("https://notvimeo.com/1", False),
        ("https://youtube.com.example/watch", False),
        ("https://example.com/?u=https://vimeo.com/", False),
        ("https://vimeo.com@example.com/", False),
        ("not an address", False),
        ("", False),
    ],
)
def test_youtube_and_the_listed_hosts_are_taken(url: str, taken: bool) -> None:
    """A host is itself and no other; an asterisk is at least one label."""
    assert takes(url, LISTED) is taken


@pytest.mark.parametrize("text", ["https://vimeo.com", "vimeo.com/x", "*", "*.", "a..b", "*vimeo.com", "a b", "-a.com"])
def test_a_list_that_names_no_host_is_refused(text: str) -> None:
    """When the worker starts, not when the first video comes."""
    with pytest.raises(SoundfleetError, match="is not a host") as caught:
        read_hosts(f"vimeo.com,{text}")
    assert caught.value.code is ErrorCode.INVALID_SETTING
    assert read_hosts(" , ") == frozenset()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://example.com/", ErrorCode.UNSUPPORTED_SOURCE),
        ("https://user:word@vimeo.com/", ErrorCode.INVALID_SOURCE),
        ("ftp://vimeo.com/", ErrorCode.INVALID_SOURCE),
        ("https://vimeo.com/#__youtubedl_smuggle=%7B%22to_generic%22%3A+true%7D", ErrorCode.INVALID_SOURCE),
    ],
)
async def test_what_is_no_address_of_a_video_starts_no_process(url: str, code: ErrorCode, tmp_path: Path) -> None:
    """Nor does an address that brings settings for yt-dlp along."""
    with pytest.raises(SoundfleetError) as caught:
        await fetch_video(url, tmp_path / "in", Limits(), LISTED)
    assert caught.value.code is code
    assert left_in(tmp_path) == []


async def test_a_cookies_file_that_is_not_there_is_a_setting(tmp_path: Path) -> None:
    """It is the operator's to mend, and says which."""
    policy = VideoPolicy(cookies=tmp_path / "none.txt")
    with pytest.raises(SoundfleetError, match="video_cookies") as caught:
        await fetch_video("https://youtu.be/aaaaaaaaaaa", tmp_path / "in", Limits(), policy)
    assert caught.value.code is ErrorCode.INVALID_SETTING
    assert left_in(tmp_path) == []


def order(directory: Path, *networks: str) -> Order:
    """An order of a YouTube video."""
    return Order(
        url="https://www.youtube.com/watch?v=aaaaaaaaaaa",
        youtube=True,
        directory=str(directory),
        runtime=DENO,
        reach=Reach.of(FetchPolicy(tuple(ip_network(network) for network in networks)), {}),
        limits=Limits(),
        box=Box(memory_bytes=1, cpu_sec=1, wall_sec=1, file_bytes=1),
        parent=1,
    )


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", 80),
        ("169.254.169.254", 80),
        ("10.0.0.1", 443),
        ("::1", 443, 0, 0),
        ("::ffff:127.0.0.1", 443, 0, 0),
        ("fd00::1", 443, 0, 0),
        ("93.184.215.14", 22),
        ("localhost", 80),
        "/run/docker.sock",
        b"/run/docker.sock",
    ],
)
@pytest.mark.parametrize("event", ["socket.connect", "socket.sendto", "socket.sendmsg"])
def test_a_connection_goes_to_the_public_internet_only(event: str, address: object, tmp_path: Path) -> None:
    """The address is looked at, not the name; the message names the host and not the address."""
    jail = Jail(order(tmp_path))
    jail("socket.getaddrinfo", ("files.example", 80, 0, 0, 0))
    with pytest.raises(PermissionError):
        jail(event, (None, address))
    assert jail.refused is not None
    assert jail.refused.code is ErrorCode.SOURCE_FORBIDDEN
    assert "files.example" in str(jail.refused)
    assert "169.254" not in str(jail.refused)


def test_the_public_internet_and_allowed_networks_may_be_reached(tmp_path: Path) -> None:
    """The latter on any port."""
    jail = Jail(order(tmp_path, "10.1.0.0/16"))
    for address in (("93.184.215.14", 443), ("2606:2800:21f::1", 80, 0, 0), ("10.1.2.3", 8080)):
        jail("socket.connect", (None, address))
    jail("socket.sendmsg", (None, None))
    assert jail.refused is None


@pytest.mark.parametrize(
    ("event", "args"),
    [
        ("subprocess.Popen", ("ffmpeg", ["ffmpeg", "-i", "x"], None, None)),
        ("subprocess.Popen", ("/bin/sh", ["sh", "-c", DENO], None, None)),
        ("subprocess.Popen", (None, ["deno", "run", "-"], None, None)),
        ("subprocess.Popen", (DENO, [DENO, "run", "--allow-net", "-"], None, None)),
        ("subprocess.Popen", (DENO, [DENO, "run", "-A", "-"], None, None)),
        ("subprocess.Popen", (DENO, [DENO, "run", "-N=example.org", "-"], None, None)),
        ("subprocess.Popen", (DENO, [DENO, "run", "--permission-set=all", "-"], None, None)),
        ("os.system", (b"true",)),
        ("os.exec", (b"/bin/true", [], None)),
        ("os.posix_spawn", (b"/bin/true", [], None)),
        ("os.fork", ()),
    ],
)
def test_no_program_is_started_but_a_powerless_deno(event: str, args: tuple[object, ...], tmp_path: Path) -> None:
    """FFmpeg and the like would connect by themselves, and so would a deno with permissions."""
    with pytest.raises(PermissionError):
        Jail(order(tmp_path))(event, args)


def test_deno_may_compute(tmp_path: Path) -> None:
    """As yt-dlp starts it: no permission, nothing from the network."""
    jail = Jail(order(tmp_path))
    jail("subprocess.Popen", (DENO, [DENO, "--version"], None, None))
    jail("subprocess.Popen", (None, [DENO, "run", "--no-remote", "--no-npm", "-"], None, None))


def test_files_are_written_in_one_directory_only(tmp_path: Path) -> None:
    """Also by a link out of it; reading is not writing."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "link").symlink_to(tmp_path)
    jail = Jail(order(work))
    jail("open", (str(work / "media"), "wb", os.O_WRONLY | os.O_CREAT))
    jail("open", (os.devnull, "w", os.O_WRONLY))
    jail("open", ("/etc/hosts", "r", os.O_RDONLY))
    jail("open", (3, "w", os.O_WRONLY))
    for path in (tmp_path / "x", work / ".." / "x", work / "link" / "x", Path(f"{work}-other")):
        with pytest.raises(PermissionError):
            jail("open", (str(path), "wb", os.O_WRONLY | os.O_CREAT))


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (None, ErrorCode.UNSUPPORTED_SOURCE),
        ({"_type": "playlist", "entries": []}, ErrorCode.INVALID_SOURCE),
        ({"_type": "multi_video", "entries": []}, ErrorCode.INVALID_SOURCE),
        ({"live_status": "is_live"}, ErrorCode.SOURCE_LIVE),
        ({"live_status": "is_upcoming"}, ErrorCode.SOURCE_LIVE),
        ({"live_status": "post_live"}, ErrorCode.SOURCE_LIVE),
        ({"is_live": True}, ErrorCode.SOURCE_LIVE),
        ({"duration": 602}, ErrorCode.AUDIO_TOO_LONG),
        ({"duration": 10, "filesize": 50 * (1 << 20) + 1}, ErrorCode.FILE_TOO_LARGE),
    ],
)
def test_a_page_is_looked_at_before_its_video_is_fetched(
    found: dict[str, object] | None, code: ErrorCode, tmp_path: Path
) -> None:
    """One recorded video, within the limits; what is not told is measured later."""
    with pytest.raises(SoundfleetError) as caught:
        check(found, order(tmp_path))
    assert caught.value.code is code
    check({"live_status": "was_live", "duration": 600.9, "filesize": 50 * (1 << 20)}, order(tmp_path))
    check({}, order(tmp_path))


class DownloadError(Exception):
    """As yt-dlp's: the exception below it is an attribute."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"ERROR: unable to write data: {cause}")
        self.exc_info = (type(cause), cause, None)


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ErrorCode.SCRATCH_FULL),
        (OSError(errno.EFBIG, "File too large"), ErrorCode.FILE_TOO_LARGE),
        (MemoryError(), ErrorCode.DECODE_LIMIT_EXCEEDED),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ErrorCode.SOURCE_NOT_FOUND),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), ErrorCode.SOURCE_UNAVAILABLE),
        (error(ErrorCode.AUDIO_TOO_LONG, "too long"), ErrorCode.AUDIO_TOO_LONG),
    ],
)
def test_what_is_at_the_bottom_of_an_exception_decides(cause: BaseException, code: ErrorCode, tmp_path: Path) -> None:
    """yt-dlp wraps all in its own, some of it several times."""
    ours = order(tmp_path)
    assert explain(DownloadError(DownloadError(cause)), ours, Jail(ours), []).code is code


def test_a_refused_connection_explains_what_follows_from_it(tmp_path: Path) -> None:
    """Not what an extractor knows for certain."""
    ours = order(tmp_path)
    jail = Jail(ours)
    with pytest.raises(PermissionError) as refused:
        jail("socket.connect", (None, ("127.0.0.1", 80)))
    assert explain(DownloadError(refused.value), ours, jail, []).code is ErrorCode.SOURCE_FORBIDDEN
    assert explain(DownloadError(ValueError("This video is private")), ours, jail, []).code is ErrorCode.SOURCE_PRIVATE


def test_the_options_are_those_that_this_yt_dlp_knows(tmp_path: Path) -> None:
    """A renamed option would be passed over in silence, and its protection with it."""
    yt_dlp = pytest.importorskip("yt_dlp")
    told = options(order(tmp_path), None, lambda _state: None)  # type: ignore[arg-type]
    source = Path(yt_dlp.__file__).parent
    known = "".join(path.read_text() for path in [*source.glob("*.py"), *(source / "downloader").glob("*.py")])
    assert [name for name in told if f"'{name}'" not in known and f"    {name}:" not in known] == []
