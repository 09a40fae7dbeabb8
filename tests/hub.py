"""A model hub on loopback, for the hub's real client: lists, redirects to content by hash, ranges, and faults."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any

COMMIT = "c" * 40
LARGE_BYTES = 1000
"""From here on a file is stored by its SHA-256, as on the real hub; smaller ones are git's own."""
CHUNK_BYTES = 1 << 16
_RESOLVE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_API = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/revision/(?P<revision>[^/?]+)")


def digest(body: bytes) -> str:
    """What the hub calls a file's content by."""
    if len(body) >= LARGE_BYTES:
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


@dataclass
class Hub:
    """What the hub has, what goes wrong with it, and what it was asked."""

    repositories: dict[str, dict[str, bytes]]
    url: str = ""
    wrong: dict[str, bytes] = field(default_factory=dict)
    """Content that is sent in the place of a file's, by its path."""
    cut: dict[str, int] = field(default_factory=dict)
    """After how many bytes the connection is cut, once, by the file's path."""
    status: int = 0
    """When set, the answer to everything."""
    slow: Event | None = None
    """When set, half of a large file is held back until the event."""
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the list says of a file instead, by its path."""
    commit: str = COMMIT
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and first byte of each request for content."""
    shown: list[tuple[str, str | None]] = field(default_factory=list)
    """By which name each request came, and with what token."""
    lock: Lock = field(default_factory=Lock)

    def gets(self, path: str) -> list[int]:
        """The first bytes that were asked for of a file."""
        return [start for method, asked, start in self.asked if method == "GET" and asked == path]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.hub.shown.append((self.headers["Host"].partition(":")[0], self.headers.get("Authorization")))
        if self.hub.status:
            self._reply(self.hub.status, b"", {})
        elif listed := _API.match(self.path):
            self._list(listed["repository"])
        elif asked := _RESOLVE.fullmatch(self.path):
            self._resolve(asked["repository"], asked["path"])
        elif self.path.startswith("/content/"):
            _, _, owner, name, path = self.path.split("/", 4)
            self._content(path, self.hub.repositories[f"{owner}/{name}"][path], {})
        else:
            self._reply(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _list(self, repository: str) -> None:
        files = self.hub.repositories.get(repository)
        if files is None:
            self._reply(401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            return
        siblings: list[dict[str, Any]] = []
        for path, body in files.items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(body), "blobId": digest(body)}
            if len(body) >= LARGE_BYTES:
                entry |= {"blobId": "0" * 40, "lfs": {"sha256": digest(body), "size": len(body), "pointerSize": 130}}
            siblings.append(entry | self.hub.listed.get(path, {}))
        self._reply(200, json.dumps({"id": repository, "sha": self.hub.commit, "siblings": siblings}).encode(), {})

    def _resolve(self, repository: str, path: str) -> None:
        body = self.hub.repositories.get(repository, {}).get(path)
        if body is None:
            self._reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        about = {"X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{digest(body)}"'}
        if len(body) < LARGE_BYTES:
            self._content(path, body, about)
        else:
            elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # the hub's content is on another host, too
            self._reply(302, b"", about | {"Location": f"{elsewhere}/content/{repository}/{path}"})

    def _content(self, path: str, body: bytes, about: dict[str, str]) -> None:
        hub = self.hub
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        with hub.lock:
            hub.asked.append((self.command, path, start))
            cut_at = hub.cut.pop(path, None) if self.command == "GET" else None
        body = hub.wrong.get(path, body)
        self.send_response(206 if asked else 200)
        for name, value in (about | {"ETag": f'"{digest(body)}"', "Content-Length": str(len(body) - start)}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send(body, start, len(body) if cut_at is None else cut_at)

    def _send(self, body: bytes, start: int, end: int) -> None:
        for at in range(start, end, CHUNK_BYTES):
            if self.hub.slow is not None and len(body) >= LARGE_BYTES and at >= len(body) // 2:
                self.hub.slow.wait(60)
            self.wfile.write(body[at : min(end, at + CHUNK_BYTES)])

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Nobody reads it."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, _request: object, _address: object) -> None:
        """A client that was killed in the middle of an answer is part of the tests."""


@contextmanager
def serving(repositories: dict[str, dict[str, bytes]], port: int = 0) -> Iterator[Hub]:
    """A hub that has these files."""
    hub = Hub(repositories)
    handler = type("Handler", (_Handler,), {"hub": hub})
    with _Server(("127.0.0.1", port), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            if hub.slow is not None:
                hub.slow.set()
            server.shutdown()
            thread.join()
