"""The real yt-dlp on pages that an operator lists, some of them hostile, from a web server on this machine."""

from __future__ import annotations

import asyncio
import gzip
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path

import av
import pytest
from tests import media
from tests.videos import Server, processes_of, running
from tests.waiting import wait_until

from soundfleet_schemas import ErrorCode, Limits, SoundfleetError
from soundfleet_worker.audio.decode import decode
from soundfleet_worker.fetch import Fetched, FetchPolicy, VideoPolicy, fetch_video
from soundfleet_worker.fetch import video as video_module

pytest.importorskip("yt_dlp")

HERE = FetchPolicy((ip_network("127.0.0.1"),), read_sec=5.0, total_sec=60.0)
SMALL = Limits(max_file_bytes=200_000)


class Site:
    """A web server: bodies by path, and handlers for what no body can say."""

    def __init__(self, sound: bytes) -> None:
        self.bodies: dict[str, bytes] = {"/song.webm": sound}
        self.special: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.waiting = threading.Event()
        """An answer has begun that does not end."""
        self.port = 0

    def page(self, path: str, body: str, title: str = "A song") -> None:
        """Put an HTML page at a path."""
        self.bodies[path] = f"<html><head><title>{title}</title></head><body>{body}</body></html>".encode()

    def redirect(self, path: str, location: str) -> None:
        """Answer a path with a redirect."""
        self.special[path] = lambda handler: head(handler, 302, Location=location)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def head(handler: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    """Answer with a head; a body may follow until the connection closes."""
    handler.send_response(status)
    for name, value in ({"Connection": "close"} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.close_connection = True


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            with suppress(ConnectionError):
                if path in site.special:
                    site.special[path](self)
                elif path in site.bodies:
                    kind = {"webm": "audio/webm", "m3u8": "application/x-mpegurl", "ts": "video/mp2t"}
                    body = site.bodies[path]
                    suffix = path.rpartition(".")[2]
                    head(self, 200, Content_Type=kind.get(suffix, "text/html"), Content_Length=str(len(body)))
                    self.wfile.write(body)
                else:
                    head(self, 404)

        def log_message(self, *_args: object) -> None:
            pass

    return Handler


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """With a song of three seconds at /song.webm."""
    (tmp_path / "in").mkdir()
    served = Site(media.make(tmp_path, "webm", media.sine(3.0, 48_000), 48_000).read_bytes())
    server = Server(("127.0.0.1", 0), _handler(served))
    served.port = server.server_address[1]
    with running(server):
        yield served


async def fetch(
    url: str, tmp_path: Path, limits: Limits = SMALL, policy: FetchPolicy = HERE, hosts: str = "127.0.0.1"
) -> Fetched:
    """Fetch; whatever happens, only the file may be left, and no process."""
    try:
        return await fetch_video(url, tmp_path / "in" / "source", limits, VideoPolicy(frozenset({hosts}), fetch=policy))
    finally:
        assert left_in(tmp_path / "in") <= {"source"}
        await asyncio.to_thread(wait_until, lambda: not processes_of(tmp_path), "the end of all processes")


async def refusal(url: str, tmp_path: Path, limits: Limits = SMALL, policy: FetchPolicy = HERE) -> SoundfleetError:
    """Fetch what cannot be had; return the error."""
    with pytest.raises(SoundfleetError) as caught:
        await fetch(url, tmp_path, limits, policy)
    assert left_in(tmp_path / "in") == set()
    return caught.value


def left_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def source(tmp_path: Path) -> bytes:
    return (tmp_path / "in" / "source").read_bytes()


async def test_a_file_and_a_page_around_it_are_fetched(site: Site, tmp_path: Path) -> None:
    """As the host has it: nothing is encoded again, and a title is never a path."""
    site.page("/page", '<video src="/song.webm"></video>', title="../../../etc/passwd")
    for path in ("/song.webm", "/page"):
        fetched = await fetch(site.url(path), tmp_path)
        assert source(tmp_path) == site.bodies["/song.webm"]
        assert fetched.size_bytes == len(site.bodies["/song.webm"])
        assert "/" not in fetched.filename
    info = decode(tmp_path / "in" / "source", tmp_path / "out.npy", 44_100, Limits())
    assert info.duration_sec == pytest.approx(3.0, abs=0.05)


def put_stream(site: Site, directory: Path) -> None:
    """Cut a song into an HLS stream of several segments, at /stream.m3u8."""
    directory.mkdir()
    with av.open(str(directory / "stream.m3u8"), "w", format="hls", options={"hls_time": "1"}) as container:
        stream = container.add_stream("aac", rate=48_000, layout="stereo")
        for start in range(0, 48_000 * 3, 1024):
            block = media.sine(3.0, 48_000)[:, start : start + 1024]
            frame = av.AudioFrame.from_ndarray(block.copy(), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48_000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for file in directory.iterdir():
        site.bodies[f"/{file.name}"] = file.read_bytes()


async def test_a_stream_of_segments_is_put_together(site: Site, tmp_path: Path) -> None:
    """By yt-dlp itself: no FFmpeg is started."""
    put_stream(site, tmp_path / "hls")
    fetched = await fetch(site.url("/stream.m3u8"), tmp_path, Limits())
    segments = [body for path, body in sorted(site.bodies.items()) if path.endswith(".ts")]
    assert len(segments) > 1
    assert fetched.size_bytes == sum(map(len, segments))


async def test_a_segment_that_is_missing_is_not_passed_over(site: Site, tmp_path: Path) -> None:
    """A song with a hole is not the song."""
    put_stream(site, tmp_path / "hls")
    del site.bodies["/stream1.ts"]
    assert (await refusal(site.url("/stream.m3u8"), tmp_path, Limits())).code is ErrorCode.SOURCE_NOT_FOUND


async def test_what_leads_into_this_network_is_refused(site: Site, tmp_path: Path) -> None:
    """By a redirect, by a page, by a playlist; also a file of this machine."""
    metadata = "http://169.254.169.254/latest/meta-data/"
    site.redirect("/redirect", metadata)
    site.page("/page", f'<video src="{metadata}song.mp4"></video>')
    site.bodies["/list.m3u8"] = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{metadata}\n#EXT-X-ENDLIST\n".encode()
    site.bodies["/local.m3u8"] = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    for path in ("/redirect", "/page", "/list.m3u8"):
        assert (await refusal(site.url(path), tmp_path)).code is ErrorCode.SOURCE_FORBIDDEN, path
    assert not (await refusal(site.url("/local.m3u8"), tmp_path)).info.retryable
    closed = HERE._replace(allow_networks=())
    found = await refusal(site.url("/song.webm"), tmp_path, policy=closed)
    assert found.code is ErrorCode.SOURCE_FORBIDDEN


async def test_what_is_not_one_video_is_refused(site: Site, tmp_path: Path) -> None:
    """Words, several videos, what is not there, what needs FFmpeg."""
    site.page("/words", "Milk, bread and a song.")
    site.bodies["/other.webm"] = site.bodies["/song.webm"]
    site.page("/many", '<video src="/song.webm"></video><video src="/other.webm"></video>')
    key = '#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"'
    site.bodies["/locked.m3u8"] = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n{key}\n#EXTINF:9,\na.ts\n#EXT-X-ENDLIST\n".encode()
    )
    for path, code in {
        "/words": ErrorCode.UNSUPPORTED_SOURCE,
        "/many": ErrorCode.INVALID_SOURCE,
        "/none": ErrorCode.SOURCE_NOT_FOUND,
        "/locked.m3u8": ErrorCode.UNSUPPORTED_SOURCE,
    }.items():
        assert (await refusal(site.url(path), tmp_path)).code is code, path


def endless(kind: str, first: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer without a length and without an end."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, 200, Content_Type=kind)
        handler.wfile.write(first)
        while True:
            handler.wfile.write(b"<p>" * 100_000)

    return answer


async def test_a_file_that_is_too_large_ends_when_that_is_known(site: Site, tmp_path: Path) -> None:
    """By its length, or by counting where it has none."""
    site.bodies["/big.webm"] = site.bodies["/song.webm"] + bytes(300_000)
    site.special["/endless.webm"] = endless("audio/webm", site.bodies["/song.webm"])
    for path in ("/big.webm", "/endless.webm"):
        assert (await refusal(site.url(path), tmp_path)).code is ErrorCode.FILE_TOO_LARGE, path


async def test_a_page_that_fills_memory_is_refused_for_good(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent at length, or packed into little."""
    monkeypatch.setattr(video_module, "_MEMORY_BYTES", 256 << 20)
    packed = gzip.compress(b"<html>" + bytes(512 << 20), compresslevel=1)

    def bomb(handler: BaseHTTPRequestHandler) -> None:
        head(handler, 200, Content_Type="text/html", Content_Encoding="gzip", Content_Length=str(len(packed)))
        handler.wfile.write(packed)

    site.special |= {"/endless": endless("text/html", b"<html>"), "/bomb": bomb}
    for path in ("/endless", "/bomb"):
        assert (await refusal(site.url(path), tmp_path)).code is ErrorCode.DECODE_LIMIT_EXCEEDED, path


def stalled(site: Site) -> Callable[[BaseHTTPRequestHandler], None]:
    """The beginning of a file, and then nothing until the caller goes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head(handler, 200, Content_Type="audio/webm", Content_Length="100000")
        handler.wfile.write(site.bodies["/song.webm"][:2000])
        site.waiting.set()
        handler.rfile.read()

    return answer


def command_line_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_cancelling_leaves_neither_a_process_nor_a_file(site: Site, tmp_path: Path) -> None:
    """In the midst of a download."""
    site.special["/slow.webm"] = stalled(site)
    task = asyncio.create_task(fetch(site.url("/slow.webm"), tmp_path))
    await asyncio.to_thread(site.waiting.wait, 30)
    (process,) = processes_of(tmp_path)
    assert b"slow.webm" not in command_line_of(process)  # everybody on the machine can read it
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left_in(tmp_path / "in") == set()


async def test_a_host_that_falls_silent_is_unavailable(site: Site, tmp_path: Path) -> None:
    """After ``read_sec``, and the few times that yt-dlp tries again."""
    site.special["/slow.webm"] = stalled(site)
    found = await refusal(site.url("/slow.webm"), tmp_path, policy=HERE._replace(read_sec=0.2))
    assert found.code is ErrorCode.SOURCE_UNAVAILABLE


async def test_a_host_that_crawls_is_given_up(site: Site, tmp_path: Path) -> None:
    """It would hold a slot for as long as it likes; here the bound is one that no host keeps."""
    policy = HERE._replace(rate_after_sec=0.0, min_bytes_per_sec=1 << 50)
    found = await refusal(site.url("/song.webm"), tmp_path, policy=policy)
    assert found.code is ErrorCode.SOURCE_UNAVAILABLE
    assert "bytes a second" in str(found)


async def test_without_yt_dlp_the_error_says_what_to_install(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may be installed without the extra."""
    (tmp_path / "yt_dlp.py").write_text("raise ModuleNotFoundError(\"No module named 'yt_dlp'\", name='yt_dlp')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    found = await refusal(site.url("/song.webm"), tmp_path)
    assert found.code is ErrorCode.MISSING_DEPENDENCY
    assert "pip install" in str(found)
