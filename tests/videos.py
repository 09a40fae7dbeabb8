"""A host of videos on this machine: plays www.youtube.com and the servers of its media, over TLS, and counts callers.

It answers what yt-dlp's extractor asks YouTube: the watch page, the player's JavaScript, and the API of players. Media
is given only to who solved the challenge in the player's JavaScript, which reverses the parameter ``n``.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TLS = Path(__file__).parent / "tls"
MEDIA_HOST = "rr1---sn-tests.googlevideo.com"
PLAYER = """(function(){
var U=function(){this.v={}};
U.prototype.set=function(k,v){this.v[k]=v};
U.prototype.get=function(k){return this.v[k]};
U.prototype.turn=function(){this.v.n=this.v.n.split("").reverse().join("")};
function make(a,b,c){var u=new U();u.set("alr","yes");if(c)u.set(b,c);return u}
var config={signatureTimestamp:20000};
}).call(this);"""
"""The shape in which yt-dlp's solver looks for the function that answers challenges."""
N, SOLVED = "abcdefghijk", "kjihgfedcba"


def refused(status: str, reason: str, subreason: str = "", **details: Any) -> dict[str, Any]:
    """A player response without media, with YouTube's words."""
    screen = {"reason": {"simpleText": reason}, "subreason": {"simpleText": subreason}}
    playability = {"status": status, "reason": reason, "errorScreen": {"playerErrorMessageRenderer": screen}}
    return {"playabilityStatus": playability, "videoDetails": details}


def offered(media: dict[str, bytes], seconds: int = 3, **details: Any) -> dict[str, Any]:
    """A player response that offers media: by MIME type with codecs."""
    formats = [
        {
            "itag": 250 + index,
            "url": f"https://{MEDIA_HOST}/videoplayback?file={index}&n={N}",
            "mimeType": kind,
            "bitrate": 64_000 * (index + 1),
            "contentLength": str(len(data)),
            "audioQuality": "AUDIO_QUALITY_MEDIUM",
            "audioSampleRate": "48000",
            "audioChannels": 2,
            "approxDurationMs": str(seconds * 1000),
        }
        for index, (kind, data) in enumerate(media.items())
    ]
    return {
        "playabilityStatus": {"status": "OK"},
        "streamingData": {"adaptiveFormats": formats, "expiresInSeconds": "21540"},
        "videoDetails": {"title": "../A song?", "lengthSeconds": str(seconds), "isLiveContent": False, **details},
    }


class VideoHost:
    """What it plays, and what it was asked for."""

    def __init__(self) -> None:
        self.players: dict[str, dict[str, Any]] = {}
        """Player responses by the video's id."""
        self.media: list[bytes] = []
        self.status: dict[str, int] = {}
        """Paths that are answered with a status only."""
        self.script = PLAYER
        self.asked: list[str] = []
        self.cookies: list[str] = []
        self.port = 0

    @property
    def pins(self) -> dict[str, str]:
        return {"*": f"127.0.0.1:{self.port}"}

    def answer(self, path: str, body: bytes) -> tuple[int, str, bytes]:
        """Return status, type and body of one request."""
        parts = urlsplit(path)
        if parts.path in self.status:
            return self.status[parts.path], "text/plain", b""
        if parts.path.startswith("/youtubei/v1/player"):
            return self._json(self._player(json.loads(body).get("videoId", "")))
        if parts.path.startswith("/youtubei/v1/browse"):
            return self._json(_PLAYLIST)
        if parts.path.startswith("/youtubei/"):
            return self._json({"contents": {"twoColumnWatchNextResults": {}}})
        if parts.path.endswith("base.js"):
            return 200, "text/javascript", self.script.encode()
        if parts.path == "/videoplayback":
            return self._media(parse_qs(parts.query))
        if parts.path == "/playlist":
            return 200, "text/html", _page({}, _PLAYLIST)
        video = parse_qs(parts.query).get("v", [""])[0]
        return 200, "text/html", _page(self._player(video), {"contents": {"twoColumnWatchNextResults": {}}})

    def _player(self, video: str) -> dict[str, Any]:
        response = self.players.get(video, refused("ERROR", "Video unavailable", "This video is unavailable"))
        return {**response, "videoDetails": {"videoId": video, **response["videoDetails"]}}

    def _media(self, query: dict[str, list[str]]) -> tuple[int, str, bytes]:
        if query["n"] != [SOLVED]:
            return 403, "text/plain", b""
        return 200, "audio/webm", self.media[int(query["file"][0])]

    @staticmethod
    def _json(document: dict[str, Any]) -> tuple[int, str, bytes]:
        return 200, "application/json", json.dumps(document).encode()


_VIDEO = {"playlistVideoRenderer": {"videoId": "aaaaaaaaaaa", "title": {"simpleText": "One of many"}}}
_PLAYLIST = {
    "contents": {
        "twoColumnBrowseResultsRenderer": {
            "tabs": [
                {
                    "tabRenderer": {
                        "selected": True,
                        "content": {
                            "sectionListRenderer": {
                                "contents": [
                                    {
                                        "itemSectionRenderer": {
                                            "contents": [{"playlistVideoListRenderer": {"contents": [_VIDEO] * 3}}]
                                        }
                                    }
                                ]
                            }
                        },
                    }
                }
            ]
        }
    },
    "metadata": {"playlistMetadataRenderer": {"title": "A list"}},
}


def _page(player: dict[str, Any], data: dict[str, Any]) -> bytes:
    config = {
        "INNERTUBE_CONTEXT": {"client": {"clientName": "WEB", "clientVersion": "2.0", "visitorData": "v"}},
        "PLAYER_JS_URL": "/s/player/0a1b2c3d/player_ias.vflset/en_US/base.js",
    }
    return (
        f"<html><head><title>-</title></head><body><script>ytcfg.set({json.dumps(config)});</script>"
        f"<script>var ytInitialPlayerResponse = {json.dumps(player)};</script>"
        f"<script>var ytInitialData = {json.dumps(data)};</script></body></html>"
    ).encode()


def _handler(host: VideoHost) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(length)
            host.asked.append(f"{self.headers['Host']}{self.path}")
            host.cookies += re.findall(r"[^;\s]+", self.headers.get("Cookie", ""))
            status, kind, data = host.answer(self.path, body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_args: object) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    """A server whose callers may go away at any time."""

    def handle_error(self, *_args: object) -> None:
        """Half of the tests are about that."""


@contextmanager
def running(server: Server) -> Iterator[None]:
    """Serve while the block lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def video_host() -> Iterator[VideoHost]:
    """Run a host of videos while the block lasts."""
    host = VideoHost()
    server = Server(("127.0.0.1", 0), _handler(host))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "video.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    host.port = server.server_address[1]
    with running(server):
        yield host


def processes_of(directory: Path) -> set[int]:
    """Ids of the living processes whose home lies in a directory: yt-dlp's and those that it started."""
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and f"HOME={directory}".encode() in (entry / "environ").read_bytes():
                found.add(int(entry.name))
    return found
